"""A connection in memory: it runs in the caller's thread, from octets to octets, with no socket, no process and no waiting.

The client's part is a script: pieces of octets, END and RESET. Each step happens when the loop has nothing else to do, or when a
request waits for it. A request that waits for a client whose script is over has waited until its deadline.
"""

from __future__ import annotations

import collections
import itertools
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from apid.conf.settings import Http
from apid.scoreboard import Row
from apid.server import context
from apid.server.accounts import Accounts
from apid.server.connection import Connection
from apid.server.engines import base
from apid.server.phase import Phase
from apid.server.timer_wheel import GRAIN, TimerWheel
from tests.support import client

END = "end"
"""The client ends its side."""

RESET = "reset"
"""The client is gone."""

_EVENTS = {END: select.EPOLLIN | select.EPOLLRDHUP, RESET: select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP}
_NUMBERS = itertools.count(1 << 20)  # no descriptors of this process: what uses them as such fails


class Wire:
    """Both ends of a socket's two streams.

    Attributes:
        sent: what the server has sent. room: octets that may be sent before the client has to read.
        said_end, shut, closed, reset: how the server has ended it.
    """

    family = socket.AF_INET

    def __init__(self, room: float) -> None:
        self.sent = bytearray()
        self.room = room
        self.said_end = self.shut = self.closed = self.reset = False
        self.unread = bytearray()
        self.last = ""
        self._number = next(_NUMBERS)

    def fileno(self) -> int:
        """A number that no descriptor has."""
        return self._number

    def getsockname(self) -> tuple[str, int]:
        """The listener's address."""
        return "127.0.0.1", 80

    def recv(self, size: int) -> bytes:
        """As recv(2)."""
        if self.last == RESET:
            raise ConnectionResetError
        if not self.unread and not self.last:
            raise BlockingIOError
        data = bytes(self.unread[:size])
        del self.unread[:size]
        return data

    def send(self, data: bytes | memoryview) -> int:
        """As send(2)."""
        assert not self.said_end, "octets after the end"
        if self.last == RESET:
            raise BrokenPipeError
        count = int(min(len(data), self.room))
        if data and not count:
            raise BlockingIOError
        self.room -= count
        self.sent += data[:count]
        return count

    def shutdown(self, how: int) -> None:
        """As shutdown(2)."""
        self.said_end = True
        self.shut = how == socket.SHUT_RDWR

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """Note that close(2) will reset."""
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        self.reset = struct.unpack("ii", value) == (1, 0)

    def close(self) -> None:
        """As close(2)."""
        self.closed = True


class Loop:
    """A loop that turns until nothing is left to do; see base.Loop."""

    abandoned = False

    def __init__(self, wire: Wire) -> None:
        self.wheel = TimerWheel(GRAIN, 0.0)
        self.session: base.Session | None = None
        self.gauge: Callable[[], None] = lambda: None
        self._soon: collections.deque[Callable[[], object]] = collections.deque()
        self.call_soon = self._soon.append
        self._wire = wire
        self._writing = False

    def turn(self) -> None:
        """Do what is to be done now."""
        while self._soon:
            self._soon.popleft()()

    def attach(self, fd: int, session: base.Session) -> None:
        """Edges from now on, and what is there already."""
        assert (fd, self.session) == (self._wire.fileno(), None)
        self.session = session
        if self._wire.unread or self._wire.last:
            self.call_soon(lambda: self.report(_EVENTS.get(self._wire.last, select.EPOLLIN)))

    def detach(self, fd: int) -> None:
        """No edges any more."""
        self.session = None

    def watch_writing(self, fd: int, *, on: bool) -> None:
        """Also when there is room."""
        self._writing = on

    def report(self, events: int) -> None:
        """Report an edge to whom it concerns."""
        if self.session is not None and (events != select.EPOLLOUT or self._writing):
            self.session.ready(events)


class Executor:
    """Runs each task at once, in the caller's thread; see base.Executor.

    Attributes:
        outcomes: of the tasks that are over. taken: sockets that applications have taken over, with what had been received.
    """

    size = 1
    interrupts = True

    def __init__(self, connection: MemoryConnection) -> None:
        self.busy = 0
        self.outcomes: list[base.Outcome] = []
        self.taken: list[tuple[Any, bytes]] = []
        self._connection = connection

    def submit(self, task: base.Task) -> None:
        """Run it."""
        self.busy = 1
        task.begin()
        outcome = task.run()
        self.outcomes.append(outcome)
        task.done(outcome)
        self.busy = 0

    def wait(self, stream: base.Waiting, *, writing: bool) -> None:
        """Let the client go on until it has done what is waited for."""
        stream.register()
        woken: list[bool] = []
        if writing:
            stream.writer = lambda: woken.append(True)
            stream.loop.watch_writing(stream.sock.fileno(), on=True)
        else:
            stream.reader = lambda: woken.append(True)
        while not woken and self._connection.step(reading=writing):
            pass
        stream.reader = stream.writer = None
        stream.expired = not woken

    def pause(self) -> None:
        """There is nobody else."""

    def detach(self, sock: Any, wire: Any, received: bytes) -> Any:
        """Hand the wire over."""
        self.taken.append((wire, received))
        return wire


class Engine:
    """See base.Engine: what requests need of it."""

    name = "memory"
    hooks = ""
    environ: dict[str, object] = {}
    decorate = None

    def __init__(self, loop: Loop, executor: Executor) -> None:
        self.loop = loop
        self.executor = executor

    def killed(self, error: BaseException) -> str | None:
        """Nothing is."""
        del error


class MemoryConnection:
    """A client and its connection.

    Attributes:
        wire: what lies between them. conn: the server's side.
        kept: whether the server still kept the connection when the client ended its side.
        outcomes: of its requests.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        row: Row,
        settings: Http | None = None,
        *,
        room: float = float("inf"),
        reads: bool = True,
    ) -> None:
        """Connect to an application.

        Args:
            app: the application.
            row: where it is counted.
            settings: of the server.
            room: octets that the client's side of the connection holds before it has to read.
            reads: the client reads whenever the server waits for it to do so.
        """
        settings = settings or Http()
        self.wire = Wire(room)
        self.kept = True
        self._room = room
        self._reads = reads
        self._script: collections.deque[bytes | str] = collections.deque()
        self.loop = Loop(self.wire)
        self.executor = Executor(self)
        engine: Any = Engine(self.loop, self.executor)
        self.outcomes = self.executor.outcomes
        shared = context.make(
            "memory",
            self.wire,  # type: ignore[arg-type]  # as far as it is asked, it is a listening socket, too
            app,
            accounts=Accounts(row, settings, engine.executor),
            engine=engine,
            environ={"apid.worker_draining": lambda: False, "wsgi.multiprocess": True},
            settings=settings,
            tls=None,
            verifies=False,
        )
        self.conn = Connection(shared, self.wire, self.wire, ("192.0.2.1", 4711))
        self.conn.begin()

    def send(self, *script: bytes | str) -> MemoryConnection:
        """Do these things one after the other, octets, END and RESET; returns itself."""
        self._script += script
        self.loop.turn()
        while self.step():
            pass
        return self

    def step(self, *, reading: bool = False) -> bool:
        """Let the client do one thing, with `reading` also read; returns whether it did."""
        if reading and self._reads and not self.wire.last:
            self.wire.room = self._room
            self.loop.report(select.EPOLLOUT)
            return True
        if not self._script:
            return False
        done = self._script.popleft()
        if isinstance(done, bytes):
            self.wire.unread += done
            self.loop.report(select.EPOLLIN)
        else:
            self.kept = not (self.wire.said_end or self.wire.closed)
            self.wire.last = done
            self.loop.report(_EVENTS[done])
        if not self.executor.busy:
            self.loop.turn()
        return True

    @property
    def phase(self) -> Phase:
        """The server's."""
        found: Phase = self.conn.phase
        return found

    def answers(self, *methods: str) -> tuple[list[client.Answer], bytes]:
        """Read what was sent as answers to requests with these methods; returns them and the octets after them."""
        reading = _Answers(bytes(self.wire.sent))
        return [reading.answer(method) for method in methods], reading.rest()


class _Answers(client.Connection):
    """Answers that have come."""

    def __init__(self, octets: bytes) -> None:
        self._unread = octets
        self.sock = self  # type: ignore[assignment]  # of which only recv is used

    def recv(self, size: int) -> bytes:
        """Nothing follows."""
        del size
        return b""
