"""The event loop of a worker: eventlet's epoll hub with a second kind of registration. Nothing here knows HTTP.

Eventlet registers a descriptor for one wait and removes it afterwards: two system calls and a listener object a wait. Here a
connection is registered once, edge-triggered, and the hub calls its `ready`; a listening socket is registered for one wait
with EPOLLEXCLUSIVE, so that the kernel wakes one worker, the one that has waited longest. Everything else (sockets of the
application, timers, green threads) goes eventlet's own ways.

A wake-up is lost if the worker that received it does not accept: it leaves the connection to its siblings and then computes, its
pool fills up, or it is killed. The kernel wakes no other worker, so each tick polls the listening sockets.

The hub also beats: each turn of its clock writes a sign of life into the scoreboard, so that a blocked hub looks blocked.

Applications share the hub, so it protects itself: `use_hub` cannot replace it, an exception raised by a signal handler inside it
does not end it, and a process forked by the application abandons it (apid.server.forked).
"""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import eventlet.hubs
from eventlet import patcher
from eventlet.hubs import epolls

from apid import scoreboard
from apid.errors import ExitCode
from apid.loggers import logger
from apid.server import forked
from apid.server.engines.base import Session
from apid.server.timer_wheel import GRAIN, TimerWheel

select = patcher.original("select")  # monkey_patch takes epoll out of the module
_sleep = patcher.original("time").sleep
_use_hub = eventlet.hubs.use_hub

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


class Hub(epolls.Hub):  # type: ignore[misc]  # eventlet has no types
    """The hub that `install` puts in place.

    Attributes:
        row: the worker's row of the scoreboard; None outside a worker.
        soon: calls to make before the next wait, in order. call_soon: adds one.
        wheel: the deadlines of connections.
        gauge: called before each wait; writes what the scoreboard shows of the moment.
        abandoned: this process was forked by the application, and the hub is its parent's.
        listening: number of listening sockets that are registered.
    """

    SYSTEM_EXCEPTIONS = ()
    """A green thread that ends with SystemExit or KeyboardInterrupt ends itself, not the worker with all its requests."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        super().__init__(clock)
        self.row: scoreboard.Row | None = None
        self.running = False
        self.stopping = False
        self.abandoned = False
        self.late = 0.0
        self.soon: collections.deque[Callable[[], object]] = collections.deque()
        self.call_soon: Callable[[Callable[[], object]], None] = self.soon.append
        self.wheel = TimerWheel(GRAIN, self.clock())
        self.gauge: Callable[[], None] = _nothing
        self.listening = 0
        self._sessions: dict[int, Session] = {}
        self._listeners = select.poll()  # the registered listening sockets
        self._beat_due = 0.0

    def attach(self, fd: int, session: Session) -> None:
        """Call `session.ready` at each change of a connection from now on. What is there already is reported, too."""
        if fd in self.listeners[self.READ] or fd in self.listeners[self.WRITE]:
            self.mark_as_reopened(fd)  # somebody closed this number without eventlet's knowledge
        self.poll.register(fd, _IN)
        self._sessions[fd] = session

    def detach(self, fd: int) -> None:
        """Undo `attach`, before the descriptor is closed."""
        if self._sessions.pop(fd, None) is not None:
            with contextlib.suppress(OSError):  # the application may have closed it by mistake
                self.poll.unregister(fd)

    def watch_writing(self, fd: int, *, on: bool) -> None:
        """Report also when an attached connection becomes writable, or no longer."""
        self.poll.modify(fd, _INOUT if on else _IN)

    def register_listener(self, fd: int, session: Session) -> None:
        """Call `session.ready` once somebody waits at a listening socket; the session then has to `unring`.

        A new registration goes to the end of the kernel's queue of waiters: that is what makes EPOLLEXCLUSIVE fair.
        """
        self.poll.register(fd, _EXCLUSIVE)
        self._sessions[fd] = session
        self._listeners.register(fd, select.POLLIN)
        self.listening += 1

    def unregister_listener(self, fd: int) -> None:
        """Undo `register_listener`; raises KeyError where there was none."""
        self.detach(fd)
        self._listeners.unregister(fd)
        self.listening -= 1

    def call_later(self, seconds: float, function: Callable[..., object], *args: object) -> Any:
        """Call a function after some seconds; the result has `cancel()`."""
        return self.schedule_call_global(seconds, function, *args)

    def tick(self) -> None:
        """Beat, and look at the deadlines: called by a timer, so that it stands still when the hub does."""
        now = self.clock()
        if self.row is not None and now >= self._beat_due:
            cells = self.row.cells
            cells[scoreboard.HUB_LAG_NS] = int((now - self._beat_due) * 1e9) if self._beat_due else 0
            cells[scoreboard.BEAT_NS] = time.monotonic_ns()
            self._beat_due = now + BEAT
        self.schedule_call_global(self.wheel.grain, self.tick)
        self.wheel.turn(now)
        if self.listening:
            for fd, events in self._listeners.poll(0):
                self._sessions[fd].ready(events)

    def run(self, *_args: Any, **_kwargs: Any) -> None:
        """Turn until aborted: eventlet's loop, without its second look at the timers where there is none due."""
        if self.running:
            raise RuntimeError("Already running!")
        try:
            self.running = True
            self.stopping = False
            while not self.stopping:
                try:
                    self._turn()
                except BaseException as error:  # noqa: BLE001 -- whatever it is, other requests continue
                    self._failed(error)
            if self.abandoned:
                forked.leave(None)
            self.timers_canceled = 0
            del self.timers[:]
            del self.next_timers[:]
        finally:
            self.running = False
            self.stopping = False

    def _failed(self, error: BaseException) -> None:
        """Continue after a turn that raised; end this process if the epoll descriptor is closed."""
        if self.abandoned:
            forked.leave(None)  # the abandoned loop itself failed
        if isinstance(error, KeyboardInterrupt) and self.gauge is _nothing:
            raise error  # inline, while the application loads: there is no handler yet but Python's
        if self.poll.closed or (isinstance(error, OSError) and error.errno == errno.EBADF and not _is_open(self.poll)):
            LOG.critical("the application has closed the epoll descriptor of this worker: the worker ends")
            logging.shutdown()
            os._exit(ExitCode.BUG)
        LOG.error("the event loop was interrupted by an exception, perhaps of a signal handler", exc_info=error)
        _sleep(BREATH)

    def scheduled(self) -> list[str]:
        """Return where the code of the calls lies that others have scheduled."""
        timers = [timer for _, timer in (*self.timers, *self.next_timers)]
        calls = [timer.tpl for timer in timers if not timer.called and getattr(timer, "tpl", None)]
        return [
            _code_of(function, args) for function, args, _ in calls if getattr(function, "__self__", None) is not self
        ]

    def abandon(self) -> None:
        """In a process that the application forked: drop all timers, calls and registrations, and close the epoll descriptor."""
        self.abandoned = self.stopping = True
        self.row = None
        self.gauge = _nothing
        for known in (self.timers, self.next_timers, self.closed, self.soon, self._sessions, *self.listeners.values()):
            known.clear()
        self.listening = 0
        self.poll.close()

    def _turn(self) -> None:
        while self.closed:
            self.close_one()
        if self.next_timers:
            self.prepare_timers()
        timers = self.timers
        if timers and timers[0][0] <= self.clock():
            self.fire_timers(self.clock())
        soon = self.soon
        # Only what is there now: what these calls add comes after the next look at the sockets.
        for _ in range(len(soon)):
            self._call(soon.popleft())
        if self.next_timers:
            self.prepare_timers()
        if soon:
            self.wait(0)
        else:
            timers = self.timers
            self.wait(max(timers[0][0] - self.clock(), 0) if timers else self.default_sleep())

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException:
            LOG.exception("a bug in the engine: %r failed", call)

    def wait(self, seconds: float | None = None) -> None:
        """Wait for events and call whom they concern."""
        self.gauge()
        found = self.poll.poll(seconds, EVENTS)
        sessions = self._sessions
        others: list[tuple[int, int]] = []
        for fd, events in found:
            session = sessions.get(fd)
            if session is None:
                others.append((fd, events))
            else:
                try:
                    session.ready(events)
                except BaseException:
                    LOG.exception("a bug in the engine: %r failed", session)
        if others:
            self._dispatch(others)

    def _dispatch(self, found: list[tuple[int, int]]) -> None:
        """Call eventlet's own listeners, as its hub does: collected first, so that none is called for another's event."""
        readers, writers = self.listeners[self.READ], self.listeners[self.WRITE]
        callbacks = set()
        for fd, events in found:
            if events & (self.READ_MASK | self.EXC_MASK) and fd in readers:
                callbacks.add((readers[fd], fd))
            if events & (self.WRITE_MASK | self.EXC_MASK) and fd in writers:
                callbacks.add((writers[fd], fd))
        for listener, fd in callbacks:
            try:
                listener.cb(fd)
            except BaseException:  # noqa: BLE001 -- a green thread may end with anything; eventlet's hub reports it
                self.squelch_exception(fd, sys.exc_info())

    def squelch_exception(self, fileno: int, exc_info: Any) -> None:
        """A green thread that waited for a descriptor has died of this: say so in the log, not on the standard error."""
        if self.abandoned:
            forked.leave(exc_info[1])
        LOG.error("a green thread ended with an exception while descriptor %d was its", fileno, exc_info=exc_info)
        self.remove_descriptor(fileno)

    def squelch_generic_exception(self, exc_info: Any) -> None:
        """As above."""
        if self.abandoned:
            forked.leave(exc_info[1])
        LOG.error("a green thread ended with an exception", exc_info=exc_info)

    def squelch_timer_exception(self, timer: object, exc_info: Any) -> None:
        """As above, for one that was woken by a timer."""
        if self.abandoned:
            forked.leave(exc_info[1])
        LOG.error("a green thread ended with an exception, woken by %r", timer, exc_info=exc_info)


def place(code: Any, line: int) -> str:
    """Return `FILE:LINE (FUNCTION)`."""
    return f"{code.co_filename}:{line} ({code.co_name})"


def _code_of(*things: Any) -> str:
    """Return the place of the first function among them; green threads are switched to, and their function is an argument."""
    for thing in itertools.chain.from_iterable(one if isinstance(one, tuple) else (one,) for one in things):
        code = getattr(getattr(thing, "__func__", thing), "__code__", None)
        if code is not None:
            return place(code, code.co_firstlineno)
    return repr(things[0])


def _nothing() -> None:
    """Until the engine sets a gauge."""


def _is_open(poll: Any) -> bool:
    try:
        os.fstat(poll.fileno())
    except OSError:
        return False
    return True


def _keep_hub(mod: object = None) -> None:
    """Replacement for `eventlet.hubs.use_hub` in a worker: native threads may choose a hub, the main thread may not."""
    if isinstance(getattr(eventlet.hubs._threadlocal, "hub", None), Hub):  # noqa: SLF001 - where eventlet keeps it
        LOG.warning("use_hub(%r) of the application is ignored: a worker of apid has its own hub", mod)
    else:
        _use_hub(mod)


def install(row: scoreboard.Row | None) -> None:
    """Make our hub the hub of this process; before monkey_patch, and after the fork.

    Args:
        row: where it beats; None outside a worker.
    """
    _use_hub(Hub)
    eventlet.hubs.use_hub = _keep_hub
    hub: Hub = eventlet.hubs.get_hub()
    hub.row = row
    hub.tick()


def current() -> Hub:
    """Return the hub of this process.

    Raises:
        TypeError: another kind of hub is in place; the engine needs `install` first.
    """
    hub = eventlet.hubs.get_hub()
    if not isinstance(hub, Hub):
        raise TypeError(f"apid.server needs its own hub, and found {hub!r}: call install() before anything green")
    return hub
