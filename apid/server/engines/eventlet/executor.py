"""The green threads that run requests, and the limit on how many do at once.

A slot is taken by a request whose head is complete and given back
with its answer: an idle or slow-to-ask connection costs memory, no slot and no stack. A thread that has finished one request
takes the next, of whatever connection, so that at a high rate no stack is made at all.
"""

from __future__ import annotations

import collections
import socket
from collections.abc import Callable
from typing import Any

import greenlet
from eventlet import greenthread

from apid.loggers import logger
from apid.server import forked
from apid.server.engines.base import Task, Waiting
from apid.server.engines.eventlet import sockets
from apid.server.engines.eventlet.loop import Hub

LOG = logger(__name__)

SPARE = 100
"""Idle green threads that are kept; each has a stack of about 10 KiB."""


class Thread(greenthread.GreenThread):  # type: ignore[misc]  # eventlet has no types
    """A green thread of the pool.

    Attributes:
        task: what it runs; None between two.
    """

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.greenlet)
        self.task: Task | None = None


class Pool:
    """A number of slots, and the threads that fill them.

    Attributes:
        size: slots. busy: slots taken.
        threads: all that live.
        on_full, on_room: called when the last slot is taken, and when there is one again.
    """

    interrupts = True

    def __init__(self, hub: Hub, size: int) -> None:
        self._hub = hub
        self.size = size
        self.busy = 0
        self.threads: set[Thread] = set()
        self._spare: list[Thread] = []
        self._waiting: collections.deque[Task] = collections.deque()
        self.on_full: Callable[[], None] = _nothing
        self.on_room: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        """Its numbers."""
        return f"<Pool {self.busy}/{self.size} waiting={len(self._waiting)} spare={len(self._spare)}>"

    @property
    def full(self) -> bool:
        """Whether no slot is free."""
        return self.busy >= self.size

    def submit(self, task: Task) -> None:
        """Let a thread run a task, now or when there is a slot; called in the hub's greenlet."""
        if self.busy >= self.size:
            self._waiting.append(task)
            return
        self.busy += 1
        if self.busy == self.size:
            self.on_full()
        task.begin()
        if self._spare:
            thread = self._spare.pop()
            thread.gr_context = None  # a request does not see another's context variables
            thread.switch(task)
        else:
            thread = Thread(self._hub)
            self.threads.add(thread)
            thread.switch(self._live, (thread, task), {})

    def _live(self, thread: Thread, task: Task) -> None:
        spare = self._spare
        try:
            while True:
                thread.task = task
                try:
                    task.done(task.run())
                except BaseException as error:
                    if self._hub.abandoned:
                        forked.leave(error)
                    task.failed()
                    if not isinstance(error, greenlet.GreenletExit):
                        LOG.exception("a bug in the server: %r failed", task)
                if self._hub.abandoned:
                    forked.leave(None)
                thread.task = None
                if self._waiting:
                    # Not at once: what is ready in other connections comes in between.
                    task = self._waiting.popleft()
                    self._hub.soon.append(thread.switch)
                    self._hub.greenlet.switch()
                    task.begin()
                    continue
                self.busy -= 1
                if self.busy == self.size - 1:
                    self.on_room()
                # An application may have called `link` on its green thread: then it ends with the request, as eventlet's would.
                if thread._exit_funcs or len(spare) >= SPARE:  # noqa: SLF001 -- a property would cost a call a request
                    return
                spare.append(thread)
                task = self._hub.greenlet.switch()
        finally:
            self.threads.discard(thread)

    def tasks(self) -> list[Task]:
        """The tasks that run."""
        return [thread.task for thread in self.threads if thread.task is not None]

    def current(self) -> Task | None:
        """The task of the running green thread. One that the application spawns is another one, and none of ours."""
        return getattr(greenlet.getcurrent(), "task", None)

    def interrupt(self, task: Task, error: type[BaseException]) -> bool:
        """Throw an exception into a task, in this turn of the hub; called in the hub's greenlet."""
        for thread in self.threads:
            if thread.task is task:
                thread.throw(error)
                return True
        return False

    # In a task

    def wait(self, stream: Waiting, *, writing: bool) -> None:
        """Switch to the hub until the stream's connection wakes this green thread."""
        stream.register()
        wake = greenlet.getcurrent().switch
        session = stream.session
        if writing:
            if not stream.writing:
                stream.writing = True
                self._hub.watch_writing(stream.sock.fileno(), on=True)
            stream.writer = wake
        else:
            stream.reader = wake
        if session.deadline > stream.until:
            self._hub.wheel.set(session, stream.until)
        try:
            self._hub.switch()
        finally:
            if writing:
                stream.writer = None
            else:
                stream.reader = None

    def pause(self) -> None:
        """Let everything else that is ready go first."""
        current = greenlet.getcurrent()
        if current.parent is None:
            return  # a native thread of the application's: it holds up nobody
        paused = [current]  # emptied if it is ended from outside meanwhile

        def resume() -> None:
            if paused:
                paused.pop().switch()

        self._hub.soon.append(resume)
        try:
            self._hub.switch()
        finally:
            paused.clear()

    def detach(self, sock: socket.socket, wire: Any, received: bytes) -> Any:
        """Make a green socket, blocking as far as the application sees."""
        return sockets.taken(sock, None if wire is sock else wire.take(), received)

    def waiting(self) -> int:
        """Tasks that wait for a slot."""
        return len(self._waiting)


def _nothing() -> None:
    """Until a listener wants to know."""
