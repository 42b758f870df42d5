"""Where the application connected sockets and started threads and processes while it loaded, for the report of what is unsafe.

Python says it in audit events (PEP 578), which cost nothing to wait for. A hook cannot be removed: after the load it returns at
once. It must never raise, or what it hears of would fail.
"""

from __future__ import annotations

import contextlib
import sys
import sysconfig
from types import FrameType
from typing import Any

_STDLIB = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_PACKAGES = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_PROCESSES = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn")
_THREADS = ("_thread.start_new_thread", "_thread.start_joinable_thread")
_EVENTS = ("socket.connect", *_THREADS, *_PROCESSES)
_MOST = 100


class Places:
    """What has been heard, and where.

    Attributes:
        sockets: by descriptor. threads: by the id() of a `threading.Thread`, or in the order of their starts.
        processes: in the order of their starts.
    """

    def __init__(self) -> None:
        self.sockets: dict[int, str] = {}
        self.threads: dict[int, str] = {}
        self.processes: list[str] = []
        self._over = False

    def watch(self) -> None:
        """Listen from now on."""
        sys.addaudithook(self._hear)

    def stop(self) -> None:
        """Hear nothing more."""
        self._over = True

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self._over:
            return
        if event in _EVENTS:
            with contextlib.suppress(Exception):
                self._note(event, args)

    def _note(self, event: str, args: tuple[Any, ...]) -> None:
        where = place(sys._getframe(2))  # noqa: SLF001 - its only name
        if event == "socket.connect" and len(self.sockets) < _MOST:
            self.sockets[args[0].fileno()] = where
        elif event in _THREADS and len(self.threads) < _MOST:
            self.threads[id(getattr(args[0], "__self__", None))] = where
        elif event in _PROCESSES and len(self.processes) < _MOST:
            self.processes.append(where)


def place(frame: FrameType | None) -> str:
    """Return the place in the application's own code, or else in the package that is nearest to what has been done."""
    nearest = ""
    while frame is not None:
        path = frame.f_code.co_filename
        ours = frame.f_globals.get("__name__", "").partition(".")[0] in ("apid", "paste", "eventlet")
        package = path.startswith(_PACKAGES)
        if not ours and not path.startswith("<") and (package or not path.startswith(_STDLIB)):
            where = f"{path}:{frame.f_lineno} ({frame.f_code.co_name})"
            if not package:
                return where
            nearest = nearest or where
        frame = frame.f_back
    return nearest
