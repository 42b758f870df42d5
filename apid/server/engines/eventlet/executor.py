"""The green threads that run requests, and the limit on how many do at once.

`eventlet.wsgi.server` is given this as its `custom_pool`. A slot is taken by a request whose head is complete and given back
with its answer: an idle or slow-to-ask connection costs memory, no slot and no stack. A thread that has finished one request
takes the next, of whatever connection, so that at a high rate no stack is made at all.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any, Protocol

import greenlet
from eventlet import greenthread

from apid.loggers import logger
from apid.server import forked
from apid.server.engines.eventlet.loop import Hub

LOG = logger(__name__)

SPARE = 100
"""Idle green threads that are kept; each has a stack of about 10 KiB."""


class Work(Protocol):
    """What a thread runs."""

    def serve(self) -> None:
        """Run one request in a green thread."""


class Thread(greenthread.GreenThread):  # type: ignore[misc]  # eventlet has no types
    """A green thread of the pool.

    Attributes:
        work: what it runs; None between two.
    """

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.greenlet)
        self.work: Work | None = None


class Pool:
    """A number of slots, and the threads that fill them.

    Attributes:
        size: slots. busy: slots taken.
        threads: all that live.
        on_full, on_room: called when the last slot is taken, and when there is one again.
    """

    def __init__(self, hub: Hub, size: int) -> None:
        self._hub = hub
        self.size = size
        self.busy = 0
        self.threads: set[Thread] = set()
        self._spare: list[Thread] = []
        self._waiting: collections.deque[Work] = collections.deque()
        self.on_full: Callable[[], None] = _nothing
        self.on_room: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        """Its numbers."""
        return f"<Pool {self.busy}/{self.size} waiting={len(self._waiting)} spare={len(self._spare)}>"

    @property
    def full(self) -> bool:
        """Whether no slot is free."""
        return self.busy >= self.size

    def run(self, work: Work) -> None:
        """Let a thread run `work`, now or when there is a slot; called in the hub's greenlet."""
        if self.busy >= self.size:
            self._waiting.append(work)
            return
        self.busy += 1
        if self.busy == self.size:
            self.on_full()
        if self._spare:
            thread = self._spare.pop()
            thread.gr_context = None  # a request does not see another's context variables
            thread.switch(work)
        else:
            thread = Thread(self._hub)
            self.threads.add(thread)
            thread.switch(self._live, (thread, work), {})

    def _live(self, thread: Thread, work: Work) -> None:
        spare = self._spare
        try:
            while True:
                thread.work = work
                try:
                    work.serve()
                except BaseException as error:
                    if self._hub.abandoned:
                        forked.leave(error)
                    if not isinstance(error, greenlet.GreenletExit):
                        LOG.exception("a bug in the engine: %r failed", work)
                if self._hub.abandoned:
                    forked.leave(None)
                thread.work = None
                if self._waiting:
                    # Not at once: what is ready in other connections comes in between.
                    work = self._waiting.popleft()
                    self._hub.soon.append(thread.switch)
                    self._hub.greenlet.switch()
                    continue
                self.busy -= 1
                if self.busy == self.size - 1:
                    self.on_room()
                # An application may have called `link` on its green thread: then it ends with the request, as eventlet's would.
                if thread._exit_funcs or len(spare) >= SPARE:  # noqa: SLF001 -- a property would cost a call a request
                    return
                spare.append(thread)
                work = self._hub.greenlet.switch()
        finally:
            self.threads.discard(thread)

    def spawn(self, function: Callable[..., object], *args: Any) -> Any:
        """What `eventlet.wsgi.server` calls for an accepted connection: it begins its life, which needs no thread yet."""
        function(*args)
        return args[0][1]

    def waitall(self) -> None:
        """What `eventlet.wsgi.server` calls at its end. The engine's drain is who waits for the connections."""

    # eventlet.GreenPool's names, for what looks at the pool
    def running(self) -> int:
        """Slots taken."""
        return self.busy

    def free(self) -> int:
        """Slots free."""
        return self.size - self.busy

    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)


def _nothing() -> None:
    """Until a listener wants to know."""
