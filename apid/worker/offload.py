"""Work that blocks in C, done in a native thread while the green thread that wants it waits.

Applications find it as `environ["apid.offload"]`: a callable (function, *args, **kwargs) that returns or raises what the function
does. The threads are eventlet's pool (20 of them), made at the first use in this worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from eventlet import tpool

P = ParamSpec("P")
T = TypeVar("T")


def offload(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in a native thread; other requests go on meanwhile. It must not touch anything green."""
    result: T = tpool.execute(function, *args, **kwargs)
    return result
