"""The native threads that run requests, and who of them leads the loop.

Handing a request to another thread costs as much as the request itself where it is short: a lock, a switch, cold caches. So the
thread that leads the loop runs it in place. If it takes longer than `PATIENCE`, the monitor takes the lead away from it and gives
it to another thread, and the first one becomes a follower when it is done. Where requests are seen to block again and again, that
would cost a switch and a pause for each of them; those are given to a follower before they are called. What has blocked is
remembered by listener, method and the beginning of the path.

The lead is a token in a list of the thread that has it. list.append and list.pop are atomic, with the GIL and in free-threaded
builds: whoever gets the token out, the thread at the end of its request or the monitor, decides who leads. So what comes after a
request's call, in the frames below it, must touch nothing of the loop's unless the thread still leads.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import functools
import itertools
import queue
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from apid import scoreboard
from apid.loggers import logger
from apid.posix import native
from apid.server import forked
from apid.server.engines.base import Outcome, Task, Waiting
from apid.server.engines.threads import sockets
from apid.server.engines.threads.loop import Loop
from apid.server.timer_wheel import NEVER

LOG = logger(__name__)

PATIENCE = 0.001
"""Seconds that a request may take in the thread that leads."""

SHORT = 0.0005
"""Seconds within which a request counts as one that does not block."""

IDLE = 30.0
"""Seconds after which a thread without work ends."""

LOG_INTERVAL = 10.0
"""Seconds between two log lines about threads that cannot be started."""

REST = 20
"""Looks without a request after which the monitor sleeps."""

STRANGE, OFTEN, MOST = 16, 48, 255
"""What a request that has blocked adds to its kind; from where its kind is given away at once; the end of the scale."""

_LEAD: Any = object()
_EMPTY = contextvars.Context()
_monotonic = time.monotonic


class Thread:
    """A native thread of the executor.

    Attributes:
        leads: it turns the loop. task: what it runs.
        token: the lead, while it runs a request in the loop: when that began, in seconds of the monotonic clock.
        item: what it is to do next: a task and its kind, or the lead. bell: released once there is an item.
    """

    __slots__ = ("bell", "item", "leads", "number", "task", "token")

    def __init__(self, number: int) -> None:
        self.number = number
        self.leads = False
        self.task: Task | None = None
        self.token: list[float] = []
        self.item: Any = None
        self.bell = native.allocate_lock()
        self.bell.acquire()


class Executor:
    """A number of slots, and the threads that fill them; see base.Executor.

    Attributes:
        threads: those that live, by number.
        gil_wait: seconds that the monitor has waited for the interpreter beyond its nap, a moving average.
    """

    interrupts = False

    def __init__(self, loop: Loop, size: int) -> None:
        self._loop = loop
        self.size = size
        self.busy = 0
        self.on_full: Callable[[], None] = _nothing
        self.on_room: Callable[[], None] = _nothing
        self.threads: dict[int, Thread] = {}
        self.gil_wait = 0.0
        self._progress_at = _monotonic()
        self._with_client: set[Waiting] = set()
        self._waiting: collections.deque[Task] = collections.deque()
        self._running: set[Task] = set()
        self._idle: list[Thread] = []
        self._numbers = itertools.count(1)
        self._leader = Thread(0)
        self._state = threading.local()
        self._blocks = bytearray(256)
        self._alarm: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = False
        self._logged = 0.0
        loop.alive_at = self._alive_at
        loop.occupied = lambda: self.busy > 0
        loop.report = self._report

    def __repr__(self) -> str:
        """Its numbers."""
        return f"<Executor {self.busy}/{self.size} waiting={len(self._waiting)} threads={len(self.threads)}>"

    @property
    def full(self) -> bool:
        """Whether no slot is free."""
        return self.busy >= self.size

    def waiting(self) -> int:
        """Tasks that wait for a slot."""
        return len(self._waiting)

    def tasks(self) -> list[Task]:
        """The tasks that run."""
        return list(self._running)

    def current(self) -> Task | None:
        """The task that the caller runs in, by its context: what it starts with a copy of that belongs to it, too."""
        return _task.get()

    def interrupt(self, task: Task, error: type[BaseException]) -> bool:
        """Nothing can be thrown into a native thread."""
        del task, error
        return False

    def _alive_at(self, now: float) -> float:
        """Return when this worker has been alive last.

        A loop whose slots are all taken is as alive as the last of them was: when a request ended, or octets came from or went to
        a client. A request that waits for its client is no hang, nor is one that has taken its socket over.
        """
        if self.busy < self.size or self._with_client or any(task.stream.taken for task in self._running):
            return now
        return self._progress_at

    def _report(self, row: scoreboard.Row) -> None:
        row.cells[scoreboard.THREADS] = len(self.threads)
        row.cells[scoreboard.GIL_WAIT_NS] = int(self.gil_wait * 1e9)

    # Leading

    def start(self) -> None:
        """Begin to turn the loop; raises RuntimeError where no thread can be started."""
        native.start("apid-monitor", self._monitor)
        thread = Thread(next(self._numbers))
        native.start("apid-1", functools.partial(self._follow, thread))
        self._give(thread, _LEAD)

    def _lead(self, me: Thread) -> None:
        self._leader = me
        me.leads = True
        loop = self._loop
        while me.leads:
            try:
                loop.turn(me)
            except BaseException as error:  # noqa: BLE001 -- whatever it is, other requests continue
                if loop.abandoned:
                    forked.leave(error)
                with contextlib.suppress(BaseException):  # what the application has changed may make logging fail, too
                    loop.failed(error)

    def _spare(self) -> Thread | None:
        """Take a thread that is idle, or start one; None where none can be started."""
        try:
            return self._idle.pop()
        except IndexError:
            pass
        thread = Thread(next(self._numbers))
        try:
            native.start(f"apid-{thread.number}", functools.partial(self._follow, thread))
        except (RuntimeError, OSError) as error:
            now = _monotonic()
            if now >= self._logged:
                self._logged = now + LOG_INTERVAL
                LOG.error("no thread can be started: %s; requests share %d", error, len(self.threads))  # noqa: TRY400 - as said
            return None
        return thread

    def _give(self, thread: Thread, item: Any) -> None:
        thread.item = item
        thread.bell.release()

    def _monitor(self) -> None:
        """Take the lead away from a thread whose request takes long."""
        quiet = 0
        while True:
            before = _monotonic()
            native.sleep(PATIENCE)
            now = _monotonic()
            self.gil_wait += (max(0.0, now - before - PATIENCE) - self.gil_wait) / 64
            token = self._leader.token
            if not token:
                quiet += 1
                if quiet > REST:
                    self._asleep = True
                    self._alarm.get()
                    quiet = 0
                continue
            quiet = 0
            try:
                late = now - token[0] >= PATIENCE
            except IndexError:
                continue
            if late:
                self._promote(token)

    def _give_lead_away(self) -> None:
        """In a task that is about to wait: let another thread lead, if this one does."""
        me: Thread | None = getattr(self._state, "thread", None)
        if me is not None and me.leads and me.task is not None:
            self._promote(me.token)

    def _promote(self, token: list[float]) -> None:
        """Let another thread lead instead of the one with this token, unless that has just been done, or its request is over."""
        thread = self._spare()
        if thread is None:
            return
        try:
            token.pop()
        except IndexError:
            self._idle.append(thread)
        else:
            self._give(thread, _LEAD)

    # Running

    def submit(self, task: Task) -> None:
        """Run a task, now or when there is a slot; called in the loop."""
        if self.busy >= self.size:
            self._waiting.append(task)
            return
        self.busy += 1
        if self.busy == self.size:
            self._progress_at = _monotonic()
            self.on_full()
        self._start(task)

    def _start(self, task: Task) -> None:
        """In the loop. After it, the caller may no longer be the one that leads."""
        task.begin()
        self._running.add(task)
        kind = task.kind
        blocks = self._blocks
        if blocks[kind] >= OFTEN and (thread := self._spare()) is not None:
            self._give(thread, (task, kind))
            return
        me = self._leader
        me.task = task
        if self._asleep:
            self._asleep = False
            self._alarm.put(None)
        me.token.append(_monotonic())
        outcome = self._run(task)
        me.task = None
        try:
            me.token.pop()
        except IndexError:
            me.leads = False
            blocks[kind] = min(MOST, blocks[kind] + STRANGE)
            self._loop.call_soon_threadsafe(functools.partial(self._finish, task, outcome, True))
            return
        if blocks[kind]:
            blocks[kind] -= 1
        self._finish(task, outcome, False)

    def _run(self, task: Task) -> Outcome | None:
        outcome = None
        try:
            outcome = _EMPTY.copy().run(_in_context, task)
        except BaseException as error:  # noqa: BLE001 -- a bug of ours must not cost the thread
            if self._loop.abandoned:
                forked.leave(error)
            _log(task, error)
        if self._loop.abandoned:
            forked.leave(None)
        if self.busy >= self.size:  # here and not in the loop, which may beat before it hears of the end
            self._progress_at = _monotonic()
        return outcome

    def _finish(self, task: Task, outcome: Outcome | None, elsewhere: bool) -> None:
        """In the loop."""
        self._running.discard(task)
        if elsewhere:
            task.stream.readable = True  # what its thread knew of that is not certain here
        try:
            if outcome is None:
                task.failed()
            else:
                task.done(outcome)
        except BaseException as error:  # noqa: BLE001 -- its slot must come back
            _log(task, error)
        if self._waiting:
            self._loop.call_soon(functools.partial(self._start, self._waiting.popleft()))
            return
        self.busy -= 1
        if self.busy == self.size - 1:
            self.on_room()

    def _follow(self, me: Thread) -> None:
        self._state.thread = me
        self.threads[me.number] = me
        idle = self._idle
        try:
            while True:
                if not me.bell.acquire(timeout=IDLE):
                    try:
                        idle.remove(me)
                    except ValueError:  # it has just been taken
                        me.bell.acquire()
                    else:
                        return
                item, me.item = me.item, None
                if item is _LEAD:
                    self._lead(me)
                else:
                    self._work(me, *item)
                idle.append(me)
        finally:
            del self.threads[me.number]

    def _work(self, me: Thread, task: Task, kind: int) -> None:
        me.task = task
        began = _monotonic()
        outcome = self._run(task)
        me.task = None
        if self._blocks[kind] and _monotonic() - began < SHORT:
            self._blocks[kind] -= 1
        self._loop.call_soon_threadsafe(functools.partial(self._finish, task, outcome, True))

    # In a task

    def wait(self, stream: Waiting, *, writing: bool) -> None:
        """Wait in the kernel."""
        self._give_lead_away()
        self._with_client.add(stream)
        poll = native.poll()
        poll.register(stream.sock.fileno(), select.POLLOUT if writing else select.POLLIN | select.POLLRDHUP)
        left = None if stream.until == NEVER else max(0.0, stream.until - _monotonic()) * 1000
        try:
            if not poll.poll(left):
                stream.expired = True
            elif not writing:
                stream.readable = True
        finally:
            self._progress_at = _monotonic()
            self._with_client.discard(stream)

    def detach(self, sock: Any, wire: Any, received: bytes) -> Any:
        """Make a blocking socket."""
        return sockets.taken(sock, None if wire is sock else wire.take(), received)

    def pause(self) -> None:
        """A thread of its own holds nobody up; one that leads gives the lead away."""
        self._progress_at = _monotonic()
        self._give_lead_away()


_task: contextvars.ContextVar[Task | None] = contextvars.ContextVar("apid_task", default=None)


def _in_context(task: Task) -> Outcome:
    _task.set(task)
    return task.run()


def _log(task: Task, error: BaseException) -> None:
    with contextlib.suppress(BaseException):  # what the application has changed may make logging fail, too
        LOG.error("a bug in the server: %r failed", task, exc_info=error)


def _nothing() -> None:
    """Until somebody wants to know."""
