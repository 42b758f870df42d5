"""The engine that runs each request in a green thread.

`eventlet.wsgi.server` runs the accept loop of each listening socket: what it accepts from is an acceptor, what it spawns is the
beginning of a connection's life in the hub.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import eventlet
import eventlet.wsgi
import greenlet

from apid.loggers import logger
from apid.server.acceptor import Acceptor
from apid.server.connection import Connection
from apid.server.engines.eventlet import loop
from apid.server.engines.eventlet.executor import Pool
from apid.server.request_handler import RequestHandler

LOG = logger(__name__)


class Engine:
    """Of a worker whose hub is loop.install's; see base.Engine."""

    name = "eventlet"

    def __init__(self, size: int) -> None:
        self.loop = loop.current()
        self.executor = Pool(self.loop, size)
        self.environ: dict[str, object] = {}

    def decorate(self, handler: RequestHandler) -> None:
        """Add eventlet's names."""
        environ = handler.environ
        environ["eventlet.set_idle"] = handler.owner.set_idle
        environ["eventlet.posthooks"] = []
        environ["eventlet.input"] = handler.input

    def finish(self, handler: RequestHandler) -> None:
        """Call what the application has left to be called after its answer."""
        hooks = handler.environ.get(
            "eventlet.posthooks"
        )  # looked up anew: applications may put a list of their own there
        for entry in hooks or ():
            try:
                hook, args, kwargs = entry
                hook(handler.environ, *args, **kwargs)
            except BaseException:
                LOG.exception("%s: a posthook failed", handler.request_id)

    def already_handled(self) -> bool:
        """Whether the application has answered by itself, on a socket that it had taken over (eventlet.websocket)."""
        found = getattr(eventlet.wsgi.WSGI_LOCAL, "already_handled", False)
        eventlet.wsgi.WSGI_LOCAL.already_handled = False
        return bool(found)

    def killed(self, error: BaseException) -> str | None:
        """Say what GreenletExit means."""
        return "the application killed its own green thread" if isinstance(error, greenlet.GreenletExit) else None

    def accept(self, acceptor: Acceptor, connect: Callable[[int, Any], Connection], app: Any) -> None:
        """Run the accept loop of a listening socket."""
        shim = _Shim(acceptor, connect)
        shim.server = eventlet.spawn(
            eventlet.wsgi.server, shim, app, custom_pool=shim, protocol=_begin, log_output=False, debug=False
        )

    def sleep(self, seconds: float) -> None:
        """Let others run for some seconds; not in the hub's greenlet."""
        eventlet.sleep(seconds)

    def forget(self) -> None:
        """In a process that the application forked: other requests never run there."""
        current = greenlet.getcurrent()
        for thread in self.executor.threads:
            if thread is not current:  # releasing a green lock here would wake the threads that wait for it
                thread.switch = thread.throw = _stay


class _Shim:
    """What `eventlet.wsgi.server` takes for its socket and its pool."""

    def __init__(self, acceptor: Acceptor, connect: Callable[[int, Any], Connection]) -> None:
        self.family = acceptor.sock.family
        self.server: Any = None
        self._acceptor = acceptor
        self._connect = connect
        self._count = 0
        self._waiter: greenlet.greenlet | None = None
        acceptor.accepted = self._accepted
        acceptor.on_over = self._over

    def getsockname(self) -> object:
        """The address."""
        return self._acceptor.sock.getsockname()

    def accept(self) -> tuple[_Client, int]:
        """Return the next connection and a key for it that is unique, which an AF_UNIX peer's address is not.

        Raises:
            OSError: ESHUTDOWN at the end, which lets `eventlet.wsgi.server` leave its loop.
        """
        if not self._count:
            self._acceptor.start()
        if self._acceptor.over:
            raise OSError(errno.ESHUTDOWN, "this worker no longer accepts")
        self._waiter = greenlet.getcurrent()
        try:
            found = loop.current().switch()
        finally:
            self._waiter = None
        if found is None:
            raise OSError(errno.ESHUTDOWN, "this worker no longer accepts")
        self._count += 1
        return _Client(found), self._count

    def _accepted(self, fd: int, peer: Any) -> None:
        if self._waiter is None:  # its green thread was killed
            Connection.begin(self._connect(fd, peer))
        else:
            self._waiter.switch(self._connect(fd, peer))

    def _over(self) -> None:
        if self._waiter is not None:
            loop.current().call_soon(self._leave)

    def _leave(self) -> None:
        if self._waiter is not None:
            self._waiter.switch(None)

    def close(self) -> None:
        """Called at the end of the loop."""
        if not self._acceptor.over:
            self._acceptor.close()

    def spawn(self, function: Callable[..., object], *args: Any) -> _Client:
        """Called for an accepted connection: it begins its life, which needs no thread yet."""
        function(*args)
        client: _Client = args[0][1]
        return client

    def waitall(self) -> None:
        """Called at the end. The server's drain is who waits for the connections."""


class _Client:
    """What `eventlet.wsgi.server` takes for an accepted socket, and for its green thread."""

    __slots__ = ("conn",)

    def __init__(self, conn: Connection) -> None:
        self.conn = conn

    def link(self, function: Callable[..., None], *args: Any) -> None:
        """Call `function` at the connection's end."""
        self.conn.link(function, *args)

    def settimeout(self, seconds: float | None) -> None:
        """Nothing: the deadlines are the connection's."""

    def shutdown(self, how: int) -> None:
        """Nothing: the drain decides when an idle connection ends."""

    def close(self) -> None:
        """Nothing: called when it is closed already."""


def _begin(state: list[Any], server: object) -> None:
    """What `eventlet.wsgi.server` calls as its protocol: the connection lives on in the hub."""
    del server
    state[1].conn.begin()


def _stay(*_: object) -> None:
    """Replacement for `switch` and `throw` of other requests' green threads in a forked child."""
