"""The engine that runs each request in a green thread."""

from __future__ import annotations

import gc
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import Any

import eventlet
import eventlet.event
import eventlet.wsgi
import greenlet
from eventlet import hubs, patcher, tpool

from apid import scoreboard
from apid.loggers import logger
from apid.posix import signals
from apid.server.engines.base import Accepted, Accepting
from apid.server.engines.eventlet import loglock, loop, offload, wsgi_server
from apid.server.engines.eventlet.executor import Pool

LOG = logger(__name__)

_native = patcher.original("threading")


def prepare(size: int, row: scoreboard.Row | None, where: str = "") -> Engine:
    """Make this process ready, before the application loads: the hub, monkey_patch, the locks of logging.

    The hub is made after the fork: one that is shared with the parent shares its epoll descriptor, and a child's changes would be
    the parent's.
    """
    del where  # any pool_size will do
    after_fork = vars(threading)["_after_fork"].__code__
    loop.install(row)
    eventlet.monkey_patch()
    loglock.install()
    engine = Engine(size)
    engine.after_fork = types.FunctionType(after_fork, vars(threading))
    return engine


class Engine:
    """Of a worker whose hub is loop.install's; see base.Engine.

    Attributes:
        after_fork: the at-fork function of `threading`. monkey_patch replaces it with an empty one, because green threads survive
            a fork; in a child that the application forks they do not.
    """

    name = "eventlet"
    hooks = "eventlet.posthooks"

    def __init__(self, size: int) -> None:
        self.loop = loop.current()
        self.executor = Pool(self.loop, size)
        self.environ: dict[str, object] = {"apid.offload": offload.offload}
        self._hub = self.loop  # of this process: of a child, after a fork
        self.after_fork: Callable[[], None] = _nothing

    # For requests

    @staticmethod
    def decorate(environ: dict[str, Any], conn: Any, given: Any) -> None:
        """Add eventlet's names."""
        environ["eventlet.set_idle"] = conn.set_idle
        environ["eventlet.posthooks"] = []
        environ["eventlet.input"] = given

    def finish(self, hooks: Any, environ: dict[str, Any], request_id: str) -> None:
        """Call what the application has left to be called after its answer."""
        try:
            entries = list(hooks)
        except TypeError:
            entries = [hooks]
        for entry in entries:
            try:
                hook, args, kwargs = entry
                hook(environ, *args, **kwargs)
            except BaseException:
                LOG.exception("%s: a posthook failed", request_id)

    def killed(self, error: BaseException) -> str | None:
        """Say what GreenletExit means."""
        return "the application killed its own green thread" if isinstance(error, greenlet.GreenletExit) else None

    # For the worker

    def main(self, live: Callable[[], int], look: Callable[[], object], every: float) -> int:
        """Let signals in and look in the hub, which survives a handler of the application that raises; and live."""

        def looking() -> None:
            self.loop.call_later(every, looking)
            look()

        def begin() -> None:
            self.loop.call_later(every, looking)
            signals.unblock_all()

        self.loop.call_later(0, begin)
        return live()

    def in_loop(self, function: Callable[[], Any]) -> Any:
        """Call a function: all is one thread."""
        return function()

    def accept(self, acceptor: Accepting, connect: Callable[[int, Any], Accepted], app: Any) -> None:
        """Accept connections by `eventlet.wsgi.server`."""
        wsgi_server.serve(acceptor, connect, app)

    def descriptors(self) -> dict[str, int]:
        """Return the descriptors that the engine needs, by description."""
        return {"its epoll": self.loop.poll.fileno()}

    def warnings(self) -> list[str]:
        """Nothing is wrong with any application."""
        return []

    def spawn(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function in a green thread of its own."""
        eventlet.spawn(function, *args)

    def sleep(self, seconds: float) -> None:
        """Let others run for some seconds; not in the hub's greenlet."""
        eventlet.sleep(seconds)

    def event(self) -> Any:
        """Make an event that carries a value."""
        return eventlet.event.Event()

    def wait_readable(self, fd: int) -> bool:
        """Wait until a descriptor can be read from; False: it was closed by this process."""
        try:
            hubs.trampoline(fd, read=True)
        except hubs.IOClosed:
            return False
        return True

    def call_within(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function; end it when the time is over, where it waits."""
        with eventlet.Timeout(seconds, False):
            function()

    def observe(self) -> Callable[[], types.FrameType | None]:
        """Make a function that returns, in another native thread, the frame that the caller of this one has got to."""
        main, ident = greenlet.getcurrent(), _native.get_ident()
        return lambda: main.gr_frame or sys._current_frames().get(ident)  # noqa: SLF001 - its only name

    def stacks(self) -> list[str]:
        """Return the stacks of all green threads, the caller's last."""
        blocks = ["".join(traceback.format_stack(found.gr_frame)) for found in gc.get_objects() if _suspended(found)]
        return [*blocks, "".join(traceback.format_stack(sys._getframe(1)))]  # noqa: SLF001 - its only name

    # For molds

    def renew(self, row: scoreboard.Row) -> None:
        """In a worker that a mold has forked: make hub and pool; native threads have stayed behind."""
        _former.append(self._hub)
        self._hub.abandon()
        loop.install(row)
        self.loop = self._hub = loop.current()
        self.executor = Pool(self.loop, self.executor.size)
        _drop_native_threads()
        loglock.renew()

    def undone(self) -> list[str]:
        """Return the green threads that wait, and the calls that are scheduled."""
        spared = (greenlet.getcurrent(), self.loop.greenlet)
        waiting = [one.gr_frame for one in gc.get_objects() if _suspended(one) and one not in spared]
        found = [f"a green thread that waits at {loop.place(frame.f_code, frame.f_lineno)}" for frame in waiting]
        return found + [f"a scheduled call of {where}" for where in self.loop.scheduled()]

    # For processes that the application forks

    def thread(self) -> object:
        """Return what stands for the running green thread, as a key."""
        return greenlet.getcurrent()

    def abandon(self) -> None:
        """In such a process: a new hub takes the place of the worker's, and no thread but the caller lives on."""
        self._hub.abandon()
        loop.install(None)
        self._hub = loop.current()  # for a child of the child
        _drop_native_threads()

    def become_main_thread(self) -> None:
        """In such a process: make this thread the main one and mark all others as ended, or multiprocessing waits for them."""
        active: dict[int, object] = vars(threading)["_active"]
        if not isinstance(active.get(threading.get_ident()), threading.Thread):
            active.pop(threading.get_ident(), None)  # of eventlet's copy of the module; it lacks methods
        self.after_fork()

    def forget(self) -> None:
        """In such a process: other requests never run there."""
        current = greenlet.getcurrent()
        for thread in self.executor.threads:
            if thread is not current:  # releasing a green lock here would wake the threads that wait for it
                thread.switch = thread.throw = _stay


_former: list[loop.Hub] = []
"""Hubs of the mold: one that is collected would be ended by an exception in its green thread."""


def _drop_native_threads() -> None:
    """Reset eventlet's thread pool: native threads do not survive a fork, and work given to them would never be done."""
    if not tpool._setup_already:  # noqa: SLF001 - it has no other name
        return
    tpool._setup_already = False  # noqa: SLF001 - as above
    tpool._threads.clear()  # noqa: SLF001 - as above
    tpool._rsock.fd.close()  # noqa: SLF001 - below the hub, which knows nothing of it
    tpool._wsock.close()  # noqa: SLF001 - as above


def _suspended(found: object) -> bool:
    """Whether an object is a green thread that has run and now waits; isinstance would touch proxies of the application."""
    return issubclass(type(found), greenlet.greenlet) and found.gr_frame is not None  # type: ignore[attr-defined]  # narrowed by type()


def _stay(*_: object) -> None:
    """Replacement for `switch` and `throw` of other requests' green threads in a forked child."""


def _nothing() -> None:
    """Where nothing was patched."""
