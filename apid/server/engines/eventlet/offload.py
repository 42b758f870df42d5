"""Work that blocks in C, done in a native thread while the green thread that wants it waits.

Applications find it as `environ["apid.offload"]`: a callable (function, *args, **kwargs) that returns or raises what the function
does. The threads are eventlet's pool (20 of them), made at the first use in this worker.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from eventlet import tpool

from apid.server import forked

P = ParamSpec("P")
T = TypeVar("T")


def offload(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in a native thread; other requests go on meanwhile. It must not touch anything green."""
    worker = os.getpid()

    def work() -> T:
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            if os.getpid() != worker:  # a forked child: the pool that waits for the result is in the worker
                forked.leave(error)
            raise
        if os.getpid() != worker:
            forked.leave(None)
        return result

    result: T = tpool.execute(work)
    return result
