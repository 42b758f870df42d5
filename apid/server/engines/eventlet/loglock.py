"""The locks of logging in a worker, where green threads and native ones log.

Theory of operation. monkey_patch makes logging's locks green. A native thread (apid.offload, a callback of a C library) that has
to wait for one enters its waiters, and its release tries to switch to that thread, which greenlet refuses: the lock is
never free again and every request that logs hangs. A native lock instead would let all green threads in at once, since to it
they are one thread, or stop the hub when its holder waits for a socket.

So this lock is both: green threads of the main thread queue at a green gate, and the one that has passed it contends with native
threads for a native lock. It waits for them in short naps, and the hub turns between these. The hub itself cannot wait for a
green thread: it passes without the lock, as it would pass an RLock of its own thread.
"""

from __future__ import annotations

import logging
from types import TracebackType

import eventlet
import greenlet
from eventlet import hubs, patcher
from eventlet.semaphore import Semaphore

_thread = patcher.original("_thread")

NAP = 0.005
"""Seconds that the main thread waits natively for another thread at a time, and sleeps between."""

HUB_PATIENCE = 1.0
"""Seconds that the hub waits for another thread: as long as that one formats and writes a record."""


class LogLock:
    """A reentrant lock among green threads of the main thread, and native threads with one green thread each."""

    def __init__(self) -> None:
        self._native = _thread.allocate_lock()
        self._gate = Semaphore(1)
        self._gated = False
        self._owner: greenlet.greenlet | None = None
        self._thread = 0
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock; logging never asks for less than waiting."""
        del blocking, timeout
        me = greenlet.getcurrent()
        if self._owner is me:
            self._depth += 1
            return True
        here = _thread.get_ident()
        if here != _main.thread:
            taken = self._thread != here and self._native.acquire()
        elif me is hubs.get_hub().greenlet:
            taken = self._thread != here and self._native.acquire(True, HUB_PATIENCE)
        else:
            taken = self._pass_gate()
        if taken:
            self._owner, self._thread, self._depth = me, here, 1
        return True

    def release(self) -> None:
        """Release the lock, unless it was passed without it."""
        if self._owner is not greenlet.getcurrent():
            return
        self._depth -= 1
        if self._depth == 0:
            gated, self._gated = self._gated, False
            self._owner, self._thread = None, 0
            self._native.release()
            if gated:
                self._gate.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _pass_gate(self) -> bool:
        self._gate.acquire()
        try:
            while not self._native.acquire(True, NAP):
                eventlet.sleep(NAP)
        except BaseException:
            self._gate.release()
            raise
        self._gated = True
        return True

    def _at_fork_reinit(self) -> None:
        self.__init__()  # type: ignore[misc]  # free, whoever had it


class _Main:
    """The native thread whose hub serves."""

    thread = 0


_main = _Main()


def install() -> None:
    """Give such a lock to logging itself, to all handlers that have one, and to those made later; after monkey_patch."""
    _main.thread = _thread.get_ident()
    logging._lock = LogLock()  # type: ignore[attr-defined]  # noqa: SLF001 - logging has no name for it
    logging.Handler.createLock = _create  # type: ignore[assignment,method-assign]  # where handlers of the application get theirs
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]  # noqa: SLF001 - as above
        handler = reference()
        if handler is not None and handler.lock is not None:
            handler.createLock()


def _create(handler: logging.Handler) -> None:
    handler.lock = LogLock()  # type: ignore[assignment]  # typeshed wants a lock of threading
    logging._register_at_fork_reinit_lock(handler)  # type: ignore[attr-defined]  # noqa: SLF001 - as logging's own does


def renew() -> None:
    """In a process that was forked after loading: handlers whose locks are pipes, as oslo.log has them, get new ones.

    The octet that stands for such a lock is in a pipe, which all forks share.
    """
    for reference in list(vars(logging)["_handlerList"]):
        handler = reference()
        if hasattr(getattr(handler, "lock", None), "wfd"):
            handler.createLock()
