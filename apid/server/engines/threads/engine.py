"""The engine that runs requests in native threads. Nothing is replaced in the standard library."""

from __future__ import annotations

import contextlib
import select
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from apid import scoreboard
from apid.loggers import logger
from apid.posix import native, signals
from apid.server.engines.base import Accepted, Accepting
from apid.server.engines.threads import limits
from apid.server.engines.threads.executor import Executor
from apid.server.engines.threads.loop import Loop
from apid.server.engines.threads.patches import Patches
from apid.server.engines.threads.sockets import LazySocket

LOG = logger(__name__)


def prepare(size: int, row: scoreboard.Row | None, where: str) -> Engine:
    """Make the engine, before the application loads.

    Raises:
        ConfigError: this process may not have so many threads.
    """
    limits.check(size, where)
    engine = Engine(size, row)
    engine.patches.watch()
    return engine


class Engine:
    """See base.Engine."""

    name = "threads"
    hooks = ""

    def __init__(self, size: int, row: scoreboard.Row | None) -> None:
        self.loop = Loop(row)
        self.executor = Executor(self.loop, size)
        self.environ: dict[str, object] = {}
        self.patches = Patches()

    # For requests

    @staticmethod
    def decorate(environ: dict[str, Any], conn: Any, given: Any) -> None:
        """Give the socket to libraries that look for it, where a client asks for another protocol."""
        del conn
        if "HTTP_UPGRADE" in environ:
            environ["werkzeug.socket"] = environ["gunicorn.socket"] = LazySocket(given.get_socket)

    def finish(self, hooks: Any, environ: dict[str, Any], request_id: str) -> None:
        """Nothing is left to be called."""

    def killed(self, error: BaseException) -> str | None:
        """Nothing ends a native thread from outside."""
        del error
        return None

    # For the worker

    def accept(self, acceptor: Accepting, connect: Callable[[int, Any], Accepted], app: Any) -> None:
        """Accept in the loop."""
        del app
        acceptor.accepted = lambda fd, peer: connect(fd, peer).begin()
        acceptor.start()

    def main(self, live: Callable[[], int], look: Callable[[], object], every: float) -> int:
        """Turn the loop, and call `live` in a thread of its own: this one runs the application's signal handlers, and looks."""
        found: list[int | BaseException] = []
        over = native.allocate_lock()
        over.acquire()

        def call() -> None:
            try:
                signals.unblock_all()  # in the threads of requests, too, or programs that they start could not be ended
                self.executor.start()  # no handler of the application runs in this thread and could interrupt it
                found.append(live())
            except BaseException as error:  # noqa: BLE001 -- raised again in the main thread
                found.append(error)
            finally:
                over.release()

        native.start("apid-life", call)
        while not found:
            try:
                signals.unblock_all()
                if not over.acquire(timeout=every):
                    look()
            except BaseException:
                LOG.exception("the main thread was interrupted by an exception, perhaps of a signal handler")
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    def in_loop(self, function: Callable[[], Any]) -> Any:
        """Call a function in the loop and return what it does; not to be called there."""
        found: list[Any] = []
        failed: list[BaseException] = []
        done = native.allocate_lock()
        done.acquire()

        def call() -> None:
            try:
                found.append(function())
            except BaseException as error:  # noqa: BLE001 -- raised again where it was asked for
                failed.append(error)
            finally:
                done.release()

        self.loop.call_soon_threadsafe(call)
        done.acquire()
        if failed:
            raise failed[0]
        return found[0]

    def descriptors(self) -> dict[str, int]:
        """Return the descriptors that the engine needs, by description."""
        return self.loop.descriptors()

    def warnings(self) -> list[str]:
        """Say where the application has replaced the standard library."""
        return self.patches.loaded()

    def spawn(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function in a native thread of its own."""

        def call() -> None:
            try:
                function(*args)
            except BaseException:
                LOG.exception("a bug in the worker: %r failed", function)

        native.start(f"apid-{function.__name__.strip('_')}", call)

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        native.sleep(seconds)

    def event(self) -> Event:
        """Make an event that carries a value."""
        return Event()

    def wait_readable(self, fd: int) -> bool:
        """Wait until a descriptor can be read from; False: it was closed by this process."""
        poll = native.poll()
        poll.register(fd, select.POLLIN)
        return not any(found & select.POLLNVAL for _, found in poll.poll())

    def call_within(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function in a thread of its own, which goes on when the time is over."""
        over = native.allocate_lock()
        over.acquire()

        def call() -> None:
            try:
                function()
            finally:
                over.release()

        try:
            native.start("apid-exit", call)
        except RuntimeError:  # no thread can be started: what watches the end of the process has to do
            function()
        else:
            over.acquire(timeout=seconds)

    def observe(self) -> Callable[[], FrameType | None]:
        """Make a function that returns, in another native thread, the frame that the caller of this one has got to."""
        ident = native.get_ident()
        return lambda: sys._current_frames().get(ident)  # noqa: SLF001 - its only name

    def stacks(self) -> list[str]:
        """Return the stacks of all threads, the caller's last."""
        mine = native.get_ident()
        names = {one.ident: one.name for one in threading.enumerate()}
        frames = sys._current_frames()  # noqa: SLF001 - its only name
        blocks = [
            f'Thread "{names.get(ident, ident)}"\n' + "".join(traceback.format_stack(frame))
            for ident, frame in frames.items()
            if ident != mine
        ]
        return [*blocks, "".join(traceback.format_stack(frames[mine]))]

    # For molds

    def renew(self, row: scoreboard.Row) -> None:
        """In a worker that a mold has forked: make loop and executor."""
        self.loop.abandon()
        self.loop = Loop(row)
        self.executor = Executor(self.loop, self.executor.size)

    def undone(self) -> list[str]:
        """Nothing: no code of the application runs in the loop."""
        return []

    # For processes that the application forks

    def thread(self) -> object:
        """Return what stands for the running thread, as a key."""
        return native.get_ident()

    def abandon(self) -> None:
        """In such a process: no thread but the caller has come with it."""
        if not self.loop.abandoned:
            self.loop.abandon()

    def become_main_thread(self) -> None:
        """Nothing: `threading` has done so."""

    def forget(self) -> None:
        """Nothing: no other request runs here."""


class Event:
    """Something that happens once, and what is known of it then; see base.Event."""

    def __init__(self) -> None:
        self._lock = native.allocate_lock()
        self._lock.acquire()
        self._values: list[object] = []

    def ready(self) -> bool:
        """Whether it has happened."""
        return bool(self._values)

    def send(self, value: object) -> None:
        """It happens; a second time is as nothing."""
        self._values.append(value)
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def wait(self) -> Any:
        """Wait for it; returns the value."""
        with self._lock:
            return self._values[0]
