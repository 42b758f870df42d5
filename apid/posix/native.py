"""Functions of the standard library as they are before anybody replaces them: the parent imports this, and replaces none."""

import threading
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable
from posix import waitpid
from select import poll
from time import sleep

__all__ = ["allocate_lock", "get_ident", "poll", "sleep", "start", "start_new_thread", "waitpid"]

_NAMES = ("_start_new_thread", "_start_joinable_thread", "_allocate_lock", "_CRLock", "get_ident")
_before = {name: getattr(threading, name, None) for name in _NAMES}


def start(name: str, function: Callable[[], object]) -> None:
    """Start a daemonic native thread, also where `threading` has been made green since.

    Raises:
        RuntimeError: no thread can be started.
    """
    if all(getattr(threading, name, None) is found for name, found in _before.items()):
        threading.Thread(target=function, name=name, daemon=True).start()
    else:
        start_new_thread(function, ())
