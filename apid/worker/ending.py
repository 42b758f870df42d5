"""The last moments of a worker's process: what an ordinary interpreter does at its end, under a deadline.

os._exit, which ends a forked child, runs nothing; but in functions registered for the end telemetry sends its last batch,
executors finish what they were given, multiprocessing ends its daemons, and temporary files are removed. They run in Python's
order: first the functions of `threading` and its threads that are no daemons, then those of `atexit`, with `logging.shutdown` as
the last.

None may hold a drain for longer than its deadline. They run in the main green thread, so the hub turns while they wait; one that
blocks natively is watched by a native thread, and one that keeps the GIL by faulthandler's, which is written in C.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import logging
import os
import sys
import threading
import time
import traceback

import eventlet
import greenlet
from eventlet import patcher

LOG = logging.getLogger("apid.worker")

native = patcher.original("threading")
_sleep = patcher.original("time").sleep

AT_LEAST = 1.5
"""Seconds for the end of a worker whose drain has used its deadline up; the parent kills it 3 s after that."""

AT_MOST = 60.0
"""Seconds where the drain has no deadline."""

ABORTED = 3.0
"""Seconds for a trial, and for a worker that could not boot."""

THREADS = 5.0
"""Seconds for threads that are no daemons: one that never ends, which would keep Python from ending, is not waited for longer."""

LOOK = 0.02


def run(seconds: float, code: int, *, threads: bool) -> None:
    """Run what is registered for the end of the process; ends the process with `code` if that takes too long.

    Args:
        seconds: until it is too long.
        code: the exit code.
        threads: whether to wait for threads that are no daemons.
    """
    main = greenlet.getcurrent()
    with contextlib.suppress(OSError, ValueError):
        faulthandler.dump_traceback_later(seconds + 1.0, exit=True, file=2)
    with contextlib.suppress(RuntimeError):  # no thread can be made any more: the dump will do
        native.Thread(target=_watch, args=(main, seconds, code), name="apid-ending", daemon=True).start()
    if threads:
        _end_threads(min(THREADS, seconds / 2))
    atexit._run_exitfuncs()  # noqa: SLF001 - the only way without ending the interpreter; multiprocessing does the same


def _end_threads(seconds: float) -> None:
    until = time.monotonic() + seconds
    with eventlet.Timeout(seconds, False):
        # concurrent.futures: no new work, then wait for what was given
        for function in reversed(getattr(threading, "_threading_atexits", ())):
            try:
                function()
            except Exception:
                LOG.exception("%r, registered for the end of threads, failed", function)
    while left := [one.name for one in threading.enumerate() if _holds(one)]:
        if time.monotonic() >= until:
            LOG.warning("not waited for any longer: threads that are no daemons: %s", ", ".join(left))
            return
        eventlet.sleep(LOOK)


def _holds(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread() and thread is not threading.current_thread()


def _watch(main: greenlet.greenlet, seconds: float, code: int) -> None:
    """In a native thread: name what takes too long, and end the process."""
    _sleep(seconds)
    frame = main.gr_frame or sys._current_frames().get(native.main_thread().ident)  # noqa: SLF001 - its only name
    stack = traceback.extract_stack(frame) if frame is not None else []
    ours = next((at for at, one in enumerate(stack) if one.filename == __file__), -1)
    after = stack[ours + 1] if len(stack) > ours + 1 else None
    what = f"{after.name} ({after.filename}:{after.lineno})" if after is not None else "something"
    LOG.error(
        "%s, registered for the end of the process, has not ended within %.1f s: the process ends without it",
        what,
        seconds,
        extra={"block": "".join(traceback.format_list(stack[ours + 1 :]))},
    )
    os._exit(code)
