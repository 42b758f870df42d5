"""The event loop of a worker whose requests run in native threads. Nothing here knows HTTP.

One thread at a time leads: it turns the loop. What has been reported and not been called yet lies in queues of the loop, not in
the frames of its thread, so that another thread can go on at any moment (executor.py says when).
"""

from __future__ import annotations

import collections
import contextlib
import errno
import heapq
import itertools
import logging
import os
import select
import time
from collections.abc import Callable
from typing import Protocol

from apid import scoreboard
from apid.errors import ExitCode
from apid.loggers import logger
from apid.posix import native
from apid.server.engines.base import Session
from apid.server.timer_wheel import GRAIN, TimerWheel

LOG = logger(__name__)

BEAT = 0.5
"""Seconds between two beats at most."""

EVENTS = 256
"""Events taken in one turn; more wait for the next."""

_IN = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_INOUT = _IN | select.EPOLLOUT
_EXCLUSIVE = select.EPOLLIN | select.EPOLLEXCLUSIVE

BREATH = 0.01
"""Seconds to wait after a failed turn, so that a lasting failure does not flood the log."""


class Leader(Protocol):
    """A thread that turns the loop.

    Attributes:
        leads: it still does: another one may have taken over while it ran a request.
    """

    leads: bool


class Timer:
    """One call to come."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[], object]) -> None:
        self.function: Callable[[], object] | None = function

    def cancel(self) -> None:
        """Let it not come."""
        self.function = None


class Loop:
    """The loop.

    Attributes:
        row: the worker's row of the scoreboard, where it beats; None outside a worker.
        alive_at: says when it has been alive last, given the time: a loop whose requests all hang beats, and is of no use.
        occupied: whether requests run beside it.
        report: writes numbers into the row, twice a second.
        wheel, abandoned, late, call_soon, gauge: as base.Loop has them.
    """

    def __init__(self, row: scoreboard.Row | None = None) -> None:
        self.row = row
        self.abandoned = False
        self.late = 0.0
        self.gauge: Callable[[], None] = _nothing
        self.alive_at: Callable[[float], float] = _now
        self.occupied: Callable[[], bool] = bool
        self.report: Callable[[scoreboard.Row], None] = _nothing
        self.wheel = TimerWheel(GRAIN, time.monotonic())
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN | select.EPOLLET)  # each write is an edge: it need not be read
        self._soon: collections.deque[Callable[[], object]] = collections.deque()
        self.call_soon: Callable[[Callable[[], object]], None] = self._soon.append
        self._posted: collections.deque[Callable[[], object]] = collections.deque()
        self._events: collections.deque[tuple[int, int]] = collections.deque()
        self._sleeps = False
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._sessions: dict[int, Session] = {}
        self._listeners = select.poll()
        self._listening = 0
        self._beat_due = 0.0
        self._tick_due = time.monotonic()
        self.tick()

    def descriptors(self) -> dict[str, int]:
        """Return those that it needs, by description."""
        return {"its epoll": self._epoll.fileno(), "its bell": self._bell}

    # In any thread

    def call_soon_threadsafe(self, function: Callable[[], object]) -> None:
        """Call a function in the next turn, and wake the loop for it."""
        self._posted.append(function)
        if self._sleeps:
            with contextlib.suppress(OSError):  # the application may have closed it: `failed` notices
                os.eventfd_write(self._bell, 1)

    def attach(self, fd: int, session: Session) -> None:
        """As base.Loop has it."""
        self._sessions[fd] = session
        self._epoll.register(fd, _IN)

    def detach(self, fd: int) -> None:
        """As base.Loop has it."""
        if self._sessions.pop(fd, None) is not None:
            with contextlib.suppress(OSError):  # the application may have closed it by mistake
                self._epoll.unregister(fd)

    # In the loop

    def call_later(self, seconds: float, function: Callable[..., object], *args: object) -> Timer:
        """Call a function after some seconds."""
        timer = Timer(lambda: function(*args))
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), timer))
        return timer

    def watch_writing(self, fd: int, *, on: bool) -> None:
        """As base.Loop has it."""
        self._epoll.modify(fd, _INOUT if on else _IN)

    def register_listener(self, fd: int, session: Session) -> None:
        """As base.Loop has it."""
        self._sessions[fd] = session
        self._epoll.register(fd, _EXCLUSIVE)
        self._listeners.register(fd, select.POLLIN)
        self._listening += 1

    def unregister_listener(self, fd: int) -> None:
        """As base.Loop has it."""
        self.detach(fd)
        self._listeners.unregister(fd)
        self._listening -= 1

    def tick(self) -> None:
        """Beat, and look at the deadlines and the listening sockets."""
        now = time.monotonic()
        waited = now - self._tick_due if self.occupied() else 0.0
        self.late = max(waited, self.late / 2)  # the wait of one tick is a sample
        self._tick_due = now + self.wheel.grain
        if self.row is not None and now >= self._beat_due:
            cells = self.row.cells
            cells[scoreboard.HUB_LAG_NS] = int((now - self._beat_due) * 1e9) if self._beat_due else 0
            cells[scoreboard.BEAT_NS] = int(self.alive_at(now) * 1e9)
            self._beat_due = now + BEAT
            self.report(self.row)
        self.call_later(self.wheel.grain, self.tick)
        self.wheel.turn(now)
        if self._listening:
            self._events += self._listeners.poll(0)

    def turn(self, leader: Leader) -> None:
        """Call what is due, then wait once. It returns as soon as the calling thread does not lead any more."""
        events = self._events
        sessions = self._sessions
        while events:
            fd, event = events.popleft()
            session = sessions.get(fd)
            if session is not None:
                try:
                    session.ready(event)
                except BaseException:
                    LOG.exception("a bug in the server: %r failed", session)
                if not leader.leads:
                    return
        now = time.monotonic()
        timers = self._timers
        while timers and timers[0][0] <= now:
            function = heapq.heappop(timers)[2].function
            if function is not None:
                self._call(function)
                if not leader.leads:
                    return
        for queue in (self._posted, self._soon):
            # Only what is there now: what these calls add comes after the next look at the sockets.
            for _ in range(len(queue)):
                self._call(queue.popleft())
                if not leader.leads:
                    return
        self.gauge()
        self._sleeps = True
        timeout = 0 if self._soon or self._posted else max(timers[0][0] - time.monotonic(), 0)
        try:
            events += self._epoll.poll(timeout, EVENTS)
        finally:
            self._sleeps = False

    def _call(self, function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException:
            LOG.exception("a bug in the server: %r failed", function)

    def failed(self, error: BaseException) -> None:
        """Continue after a turn that raised; end this process if the application has closed the loop's descriptors."""
        if self._epoll.closed or (isinstance(error, OSError) and error.errno == errno.EBADF and not self._is_open()):
            LOG.critical("the application has closed the epoll descriptor of this worker: the worker ends")
            logging.shutdown()
            os._exit(ExitCode.BUG)
        LOG.error("the event loop was interrupted by an exception", exc_info=error)
        native.sleep(BREATH)

    def _is_open(self) -> bool:
        try:
            os.fstat(self._epoll.fileno())
        except OSError:
            return False
        return True

    # At the end

    def abandon(self) -> None:
        """In a process that the application forked: the loop is its parent's."""
        self.abandoned = True
        self.row = None
        for known in (self._soon, self._posted, self._events, self._timers, self._sessions):
            known.clear()
        self._epoll.close()
        with contextlib.suppress(OSError):
            os.close(self._bell)


def _nothing(*_: object) -> None:
    """Until there is something to write."""


def _now(now: float) -> float:
    return now
