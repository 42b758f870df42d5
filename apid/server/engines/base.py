"""What an engine is: an event loop, an executor that runs requests, and the way in which a request's code waits.

The rule that makes it safe: a connection is owned by the loop, or by exactly one task, never by both. Its phase, its deadline,
the counters, the ring of requests in flight and the log's buffer change only in the loop. A task has its stream, its head and
its answer, and gives them back with an `Outcome`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import socket
    from types import FrameType

    from apid import scoreboard
    from apid.server.timer_wheel import TimerWheel


class Outcome(enum.IntEnum):
    """What becomes of a connection after a request."""

    KEEP_ALIVE = 0
    """Another request may come."""
    LINGER = 1
    """Our side is closed, and what still comes is thrown away: the client may be reading the answer."""
    CLOSE = 2
    """Closed at once."""
    RESET = 3
    """Closed so that the client sees an error: of an answer whose end is its length's only mark, the end is missing."""
    DETACHED = 4
    """The application has taken the socket over."""


class Session(Protocol):
    """What is called back by the loop: it must not block."""

    def ready(self, events: int) -> None:
        """Events of epoll(7) have come for its descriptor."""


class Task(Protocol):
    """A request to be run.

    Attributes:
        stream: of its connection.
    """

    stream: Any

    @property
    def kind(self) -> int:
        """A number below 256 that requests of the same sort have in common."""

    def begin(self) -> None:
        """It has got a slot; called in the loop."""

    def run(self) -> Outcome:
        """Run it; called by the executor, where it may wait. Raises nothing but what must end a forked child."""

    def done(self, outcome: Outcome) -> None:
        """It is over, its slot not yet given back; called in the loop."""

    def failed(self) -> None:
        """`run` has raised, which is a bug of ours; called in the loop."""


class Accepted(Protocol):
    """A connection that has been accepted."""

    def begin(self) -> None:
        """Start its life in the loop."""

    def link(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function at its end."""


class Accepting(Protocol):
    """A listening socket that accepts.

    Attributes:
        sock: the socket. over: it accepts no more.
        accepted: is called with each descriptor and its peer's address. on_over: called at the end.
    """

    sock: socket.socket
    accepted: Callable[[int, Any], object]
    on_over: Callable[[], object]

    @property
    def over(self) -> bool:
        """It accepts no more."""

    def start(self) -> None:
        """Begin."""

    def close(self) -> None:
        """End."""


class Waiting(Protocol):
    """What a task waits on: a stream.

    Attributes:
        until: seconds of the monotonic clock at which its waiting ends; `timer_wheel.NEVER` for no end.
        reader, writer: what the engine has put there to wake who waits to read, or to send; None where nobody waits.
        expired: it was woken because `until` is over.
        readable: the kernel may have more.
        writing: the loop reports when there is room to write.
        session: the connection, with its deadline.
    """

    sock: Any
    session: Any
    until: float
    expired: bool
    writing: bool
    reader: Any
    writer: Any
    readable: bool

    def register(self) -> None:
        """Let the loop report edges."""


class Loop(Protocol):
    """An event loop: one a worker, in one thread.

    Attributes:
        wheel: the deadlines of connections.
        abandoned: this process was forked by the application, and the loop is its parent's.
        late: seconds by which timers come late while requests compute beside the loop; 0 where the loop stands still then.
        call_soon: calls a function in the next turn, before it waits; in the loop's own thread only.
        gauge: called before each wait.
    """

    wheel: TimerWheel
    abandoned: bool
    late: float
    call_soon: Callable[[Callable[[], object]], None]
    gauge: Callable[[], None]

    def call_later(self, seconds: float, function: Callable[..., object], *args: object) -> Any:
        """Call a function in the loop after some seconds; the result has `cancel()`."""

    def attach(self, fd: int, session: Session) -> None:
        """Report each change of a descriptor from now on (edge-triggered), and what is there already."""

    def detach(self, fd: int) -> None:
        """Undo `attach`, before the descriptor is closed."""

    def watch_writing(self, fd: int, *, on: bool) -> None:
        """Report also when a registered descriptor becomes writable, or no longer."""

    def register_listener(self, fd: int, session: Session) -> None:
        """Report once that somebody waits at a listening socket (EPOLLEXCLUSIVE); the session then has to unregister it."""

    def unregister_listener(self, fd: int) -> None:
        """Undo `register_listener`."""


class Executor(Protocol):
    """Runs requests: a number of slots, and what fills them.

    Attributes:
        size: slots. busy: slots taken.
        on_full, on_room: called when the last slot is taken, and when there is one again.
        interrupts: exceptions can be thrown into what it runs.
    """

    size: int
    busy: int
    interrupts: bool
    on_full: Callable[[], None]
    on_room: Callable[[], None]

    @property
    def full(self) -> bool:
        """Whether no slot is free."""

    def waiting(self) -> int:
        """Tasks that wait for a slot."""

    def submit(self, task: Task) -> None:
        """Run a task, now or when there is a slot; called in the loop."""

    def tasks(self) -> list[Task]:
        """The tasks that run."""

    def current(self) -> Task | None:
        """The task that the caller runs in."""

    def interrupt(self, task: Task, error: type[BaseException]) -> bool:
        """Throw an exception into a running task, where that is possible; returns whether it was."""

    # In a task

    def wait(self, stream: Waiting, *, writing: bool) -> None:
        """Wait until the stream may be read from or written to again, or its `until` is over (then it is marked `expired`)."""

    def pause(self) -> None:
        """Let everything else that is ready go first."""

    def detach(self, sock: socket.socket, wire: Any, received: bytes) -> Any:
        """Make what an application gets that takes a socket over; octets already received come out of it first."""


class Event(Protocol):
    """Something that happens once, and what is known of it then."""

    def ready(self) -> bool:
        """Whether it has happened."""

    def send(self, value: object) -> None:
        """It happens."""

    def wait(self) -> Any:
        """Wait for it; returns the value."""


class Engine(Protocol):
    """One kind of concurrency, made for a worker by `prepare` of its module.

    Attributes:
        name: as the option `engine` has it.
        environ: entries that every environ has under this engine.
        hooks: the key in an environ under which an application leaves what `finish` is called with; empty where there is none.
    """

    name: str
    hooks: str
    environ: dict[str, object]

    @property
    def loop(self) -> Loop:
        """Its loop."""

    @property
    def executor(self) -> Executor:
        """Its slots."""

    @property
    def decorate(self) -> Callable[[dict[str, Any], Any, Any], None] | None:
        """Add to an environ what differs from request to request, in the loop; None where that is nothing.

        It takes the environ, the connection and the content.
        """

    def finish(self, hooks: Any, environ: dict[str, Any], request_id: str) -> None:
        """Call what the application has left to be called after its answer; in the task."""

    # For requests

    def killed(self, error: BaseException) -> str | None:
        """Say what an exception means with which a task can be ended from outside; None for any other one."""

    # For the worker

    def main(self, live: Callable[[], int], look: Callable[[], object], every: float) -> int:
        """Let signals in, turn the loop, and return what `live` does, which may wait.

        Args:
            live: beside the loop.
            look: called every so many seconds in the main thread, where handlers of signals may raise.
            every: seconds.
        """

    def in_loop(self, function: Callable[[], Any]) -> Any:
        """Call a function in the loop, and return what it does; called beside the loop."""

    def accept(self, acceptor: Accepting, connect: Callable[[int, Any], Accepted], app: Any) -> None:
        """Let an acceptor accept; `connect` makes a connection of a descriptor and its peer's address."""

    def descriptors(self) -> dict[str, int]:
        """Return the descriptors that the engine needs, by description."""

    def warnings(self) -> list[str]:
        """Say what the operator should know of the application that has been loaded."""

    def spawn(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function beside the loop, where it may wait by the methods below."""

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds."""

    def event(self) -> Event:
        """Make an event."""

    def wait_readable(self, fd: int) -> bool:
        """Wait until a descriptor can be read from; False: it was closed by this process."""

    def call_within(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function that raises nothing; return after some seconds even if it still waits."""

    def observe(self) -> Callable[[], FrameType | None]:
        """Make a function that returns, in another native thread, the frame that the caller of this one has got to."""

    def stacks(self) -> list[str]:
        """Return the stacks of all threads of this kind, the caller's last."""

    # For molds

    def renew(self, row: scoreboard.Row) -> None:
        """In a worker that a mold has forked: a new loop, which beats into `row`, and a new executor; nothing is shared."""

    def undone(self) -> list[str]:
        """Return what the application has left to be done in the loop, with its place: a fork would lose it."""

    # For processes that the application forks

    def thread(self) -> object:
        """Return what stands for the running thread, as a key."""

    def abandon(self) -> None:
        """In such a process: the worker's loop stands still, and no thread but the caller lives on."""

    def become_main_thread(self) -> None:
        """In such a process: make this thread the main one and mark all others as ended."""

    def forget(self) -> None:
        """In such a process: other requests never run there."""
