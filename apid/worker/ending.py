"""The end of a worker process: runs exit functions as the interpreter would, under a deadline.

os._exit, which ends a forked child, runs none of them. But exit functions send the last batch of telemetry, finish the work of
executors, end daemons of multiprocessing, remove temporary files. The order is Python's: first the exit functions of `threading`
and its non-daemon threads, then those of `atexit`, with `logging.shutdown` last.

No exit function may hold a drain beyond its deadline. They run in the main thread, under eventlet a green one, so that its hub
turns while one waits. A native thread watches for one that does not end; faulthandler's timer, which needs no GIL, for one that
blocks that thread too.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from apid.loggers import logger
from apid.posix import native

if TYPE_CHECKING:
    from apid.server.engines import base

LOG = logger("apid.worker")

AT_LEAST = 1.5
"""Seconds for the exit functions after a drain that has used up its deadline; the parent kills the worker 3 s after that."""

AT_MOST = 60.0
"""Seconds for the exit functions after a drain without a deadline."""

ABORTED = 3.0
"""Seconds for the exit functions of a trial, and of a worker that failed to boot."""

THREADS = 5.0
"""Seconds to wait for non-daemon threads; one that never ends would keep an ordinary interpreter from ending."""

LOOK = 0.02


def run(
    engine: base.Engine, seconds: float, code: int, *, threads: bool, first: Callable[[], object] | None = None
) -> None:
    """Run the exit functions; end the process with `code` if they take too long.

    Args:
        engine: the worker's.
        seconds: the deadline.
        code: the exit code.
        threads: whether to wait for non-daemon threads.
        first: called before anything else, if anything is.
    """
    where = engine.observe()
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # RuntimeError here, too: no thread can be started
        faulthandler.dump_traceback_later(seconds + 1.0, exit=True, file=2)
    with contextlib.suppress(RuntimeError):
        native.start_new_thread(_watch, (where, seconds, code))
    if threads and first is not None:
        first()
    if threads:
        _end_threads(engine, min(THREADS, seconds / 2))
    atexit._run_exitfuncs()  # noqa: SLF001 - the only way without ending the interpreter; multiprocessing does the same


def _end_threads(engine: base.Engine, seconds: float) -> None:
    until = time.monotonic() + seconds
    engine.call_within(seconds, _call_exit_functions)
    while left := [one.name for one in threading.enumerate() if _holds(one)]:
        if time.monotonic() >= until:
            LOG.warning("non-daemon threads have not ended within %.1f s: %s", seconds, ", ".join(left))
            return
        engine.sleep(LOOK)


def _call_exit_functions() -> None:
    """Those of `threading`: concurrent.futures takes no new work, then waits for what was given."""
    for function in reversed(getattr(threading, "_threading_atexits", ())):
        try:
            function()
        except Exception:
            LOG.exception("the exit function %r failed", function)


def _holds(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread() and thread is not threading.current_thread()


def _watch(where: Callable[[], FrameType | None], seconds: float, code: int) -> None:
    """In a native thread: log the exit function that takes too long, and end the process."""
    native.sleep(seconds)
    frame = where()
    stack = traceback.extract_stack(frame) if frame is not None else []
    ours = next((at for at, one in enumerate(stack) if one.filename == __file__), -1)
    after = stack[ours + 1] if len(stack) > ours + 1 else None
    what = f"{after.name} ({after.filename}:{after.lineno})" if after is not None else "something"
    LOG.error(
        "the exit function %s has not ended within %.1f s: the process ends without it",
        what,
        seconds,
        extra={"block": "".join(traceback.format_list(stack[ours + 1 :]))},
    )
    os._exit(code)
