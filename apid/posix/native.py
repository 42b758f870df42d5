"""Functions of the standard library as they are before an engine replaces them: the parent imports it, and replaces none."""

from _thread import allocate_lock, get_ident, start_new_thread
from time import sleep

__all__ = ["allocate_lock", "get_ident", "sleep", "start_new_thread"]
