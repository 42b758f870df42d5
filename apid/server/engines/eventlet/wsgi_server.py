"""The shim for `eventlet.wsgi.server`, which runs the accept loop of each listening socket.

What it accepts from is an acceptor, what it spawns is the beginning of a connection's life in the hub.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import eventlet
import eventlet.wsgi
import greenlet

from apid.server.engines.base import Accepted, Accepting
from apid.server.engines.eventlet import loop


def serve(acceptor: Accepting, connect: Callable[[int, Any], Accepted], app: Any) -> None:
    """Run the accept loop of a listening socket, in a green thread."""
    shim = _Shim(acceptor, connect)
    shim.server = eventlet.spawn(
        eventlet.wsgi.server, shim, app, custom_pool=shim, protocol=_begin, log_output=False, debug=False
    )


class _Shim:
    """What `eventlet.wsgi.server` takes for its socket and its pool."""

    def __init__(self, acceptor: Accepting, connect: Callable[[int, Any], Accepted]) -> None:
        self.family = acceptor.sock.family
        self.server: Any = None
        self._hub = loop.current()
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
            found = self._hub.greenlet.switch()
        finally:
            self._waiter = None
        if found is None:
            raise OSError(errno.ESHUTDOWN, "this worker no longer accepts")
        self._count += 1
        return _Client(found), self._count

    def _accepted(self, fd: int, peer: Any) -> None:
        if self._waiter is None:  # its green thread was killed
            self._connect(fd, peer).begin()
        else:
            self._waiter.switch(self._connect(fd, peer))

    def _over(self) -> None:
        if self._waiter is not None:
            self._hub.call_soon(self._leave)

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

    def __init__(self, conn: Accepted) -> None:
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
