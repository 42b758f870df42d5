"""The octets of one connection: reading and sending without blocking, waiting for the hub's edges in a green thread.

Edge-triggered means: after an edge, what is there has to be read to its end, because no second edge tells of it. `readable` is
that knowledge: true from the edge on until a read found less than it asked for. It survives whoever reads.

No HTTP here, and no decision about the connection's life: that is connection.py's, which builds on this.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import greenlet
from eventlet import greenio

from apid import scoreboard
from apid.hosts import one_spelling
from apid.server.interruptions import ClientGone
from apid.server.timer_wheel import NEVER

if TYPE_CHECKING:
    from apid.server.context import Service

TURN = 10_000_000
"""Nanoseconds for which a request that never has to wait goes on before everybody else has a turn."""

HALF_CLOSED = 1.0
"""Seconds for which a client that has ended its side of the connection may still be reading.

A client that has left looks the same until something is sent to it (RFC 9112 §9.6).
"""

GONE = {errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN, errno.ENOTCONN}


class Transport:
    """A plain, non-blocking socket, registered with the hub once it has to be waited for.

    Attributes:
        service: what all connections of a listener share.
        sock: the socket, non-blocking.
        address: the client's host and port; both empty for a UNIX socket, UNKNOWN where a PROXY header does not tell them.
        own: whether the connection is the proxy's own, by its PROXY header.
        proxied: whether a PROXY header says that it is a client's.
        taken: the application has taken the socket over.
        buffer: received and not yet consumed.
        readable: whether the kernel may have more.
        readwaiter, writewaiter: the green thread that waits to read, or to send.
        gone_at: seconds of the monotonic clock from which the client has left, as far as is known; NEVER while it is there.
        deadline, tick: for `Deadlines`.
        turn: nanoseconds of the monotonic clock until which a request may go on without a pause.
    """

    __slots__ = (
        "_local",
        "_registered",
        "_writing",
        "address",
        "buffer",
        "deadline",
        "gone_at",
        "own",
        "proxied",
        "readable",
        "readwaiter",
        "service",
        "sock",
        "taken",
        "tick",
        "turn",
        "writewaiter",
    )

    secure = False

    def __init__(self, service: Service, sock: Any, address: tuple[str, str]) -> None:
        self.service = service
        self.sock = sock
        self.address = address
        self.own = False
        self.proxied = False
        self.buffer: bytes | bytearray = b""
        self.taken = False
        self.readable = True
        self.deadline = NEVER
        self.tick = -1
        self.readwaiter: greenlet.greenlet | None = None
        self.writewaiter: greenlet.greenlet | None = None
        self.gone_at = NEVER
        self._registered = False
        self._writing = False
        self._local = ""
        self.turn = 0

    def ready(self, events: int) -> None:
        """Edges have come; called by the hub."""
        raise NotImplementedError

    def expired(self) -> None:
        """The deadline is over; called by the hub."""
        raise NotImplementedError

    # What eventlet.wsgi.server does with an accepted socket.

    def settimeout(self, seconds: float | None) -> None:
        """Nothing: the deadlines are the engine's."""

    def shutdown(self, how: int) -> None:
        """Nothing: the engine's drain decides when an idle connection ends."""

    def close(self) -> None:
        """Nothing: called when it is closed already."""

    def _register(self) -> None:
        self._registered = True
        self.service.hub.attach(self.sock.fileno(), self)

    def _receive(self, size: int) -> bytes | None:
        """Read what there is: None for nothing at the moment, empty for the end."""
        try:
            data: bytes = self.sock.recv(size)
        except BlockingIOError:
            self.readable = False
            return None
        except OSError:
            return b""
        # A short read has emptied the socket; but the end of the stream, if it came with the same edge, is still to be read.
        if len(data) < size and self.gone_at == NEVER:
            self.readable = False
        return data

    def _peek(self, size: int) -> bytes | None:
        """Look at what there is and leave it in the kernel: None for nothing at the moment, empty for the end."""
        try:
            data: bytes = self.sock.recv(size, socket.MSG_PEEK)
        except BlockingIOError:
            self.readable = False
            return None
        except OSError:
            return b""
        return data

    def receive(self, size: int) -> bytes:
        """Read at most `size` octets of content, waiting for them; empty at the end of the stream.

        Raises:
            ClientSlow: client_socket_timeout is over.
        """
        if self.buffer:
            data = bytes(self.buffer[:size])
            self.buffer = self.buffer[size:]
            return data
        while True:
            if self.readable:
                found = self._receive(size)
                if found is not None:
                    self.service.cells[scoreboard.BYTES_IN] += len(found)
                    return found
            if not self._registered:
                self._register()
            self.readwaiter = greenlet.getcurrent()
            try:
                self._wait()
            finally:
                self.readwaiter = None

    def send(self, data: bytes | memoryview) -> None:
        """Send all octets, waiting where the client reads slowly.

        Raises:
            ClientGone: it does not read at all any more.
            ClientSlow: client_socket_timeout is over.
        """
        # What _transmit does, in place: nearly every answer goes out by this one call.
        try:
            sent: int = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGone(error.errno, "the client has closed the connection") from error
        if sent != len(data):
            self._send_rest(data, sent)

    def _send_rest(self, data: bytes | memoryview, sent: int) -> None:
        view = memoryview(data)[sent:]
        while view:
            self._await_room()
            view = view[self._transmit(view) :]

    def _transmit(self, data: bytes | memoryview) -> int:
        """Hand the kernel what it takes."""
        try:
            sent: int = self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ClientGone(error.errno, "the client has closed the connection") from error
        return sent

    def sendfile(self, fd: int, offset: int, count: int) -> int:
        """Send at most `count` octets of a file from `offset`, straight from the page cache.

        Returns:
            How many were sent; 0 where the file ends, where its file system has no sendfile(2), and where it fails.

        Raises:
            ClientGone, ClientSlow: as `send`.
        """
        while count:
            try:
                return os.sendfile(self.sock.fileno(), fd, offset, min(count, 1 << 20))
            except BlockingIOError:
                self._await_room()
            except OSError as error:
                if error.errno in GONE:
                    raise ClientGone(error.errno, "the client has closed the connection") from error
                return 0  # a read will tell what is the matter, or do without
        return 0

    def moved(self) -> None:
        """Octets have come or gone: now and then, let everything else that is ready go first.

        A client that is as fast as the application gives no reason to wait, and would have the worker to itself until that one
        looks hung.
        """
        if time.monotonic_ns() < self.turn:
            return
        current = greenlet.getcurrent()
        if current.parent is None:
            return  # a native thread of the application's: it holds up nobody
        paused = [current]  # emptied if it is ended from outside meanwhile

        def resume() -> None:
            if paused:
                paused.pop().switch()

        self.service.hub.soon.append(resume)
        try:
            self.service.hub.switch()
        finally:
            paused.clear()
        self.turn = time.monotonic_ns() + TURN

    def client_gone(self) -> bool:
        """Return whether the client has ended the connection or its side of it; `environ["apid.client_gone"]`.

        This is what the hub has seen, so a green thread that never waits never learns of it. No system call, but for the first
        call on a connection that has not been waited for yet.
        """
        if self.gone_at == NEVER and not self._registered and not self.taken:
            self._register()
        return self.gone_at != NEVER

    def passed(self) -> None:
        """The application has given a piece of which nothing is sent: as `moved`; nothing but this tells that the client left.

        Raises:
            ClientGone: it has.
        """
        if time.monotonic_ns() < self.turn:
            return
        self.client_gone()
        self.moved()
        if self.gone_at <= time.monotonic():
            raise ClientGone(errno.ECONNRESET, "the client has closed the connection before the end of its answer")

    def _await_room(self) -> None:
        if not self._registered:
            self._register()
        if not self._writing:
            self._writing = True
            self.service.hub.watch_writing(self.sock.fileno(), on=True)
        self.writewaiter = greenlet.getcurrent()
        try:
            self._wait()
        finally:
            self.writewaiter = None
        self.progress()  # the kernel tells of room only once the client has taken a good part of what waits

    def _wait(self) -> None:
        service = self.service
        timeout = service.settings.client_socket_timeout
        if self.deadline == NEVER and timeout:
            service.hub.deadlines.set(self, time.monotonic() + timeout)
        service.hub.switch()

    def progress(self) -> None:
        """Enough has come or gone: client_socket_timeout restarts."""
        self.deadline = NEVER

    def gone(self) -> ClientGone:
        """The stream has ended where content was to come."""
        return ClientGone(errno.ECONNRESET, "the client has closed the connection before the end of its request")

    @property
    def local(self) -> str:
        """Our own address of this connection, where the listener's tells of none."""
        if not self._local:
            with contextlib.suppress(OSError):
                self._local = one_spelling(self.sock.getsockname()[0])
        return self._local or "localhost"

    def take(self) -> Any:
        """Hand the socket over to the application, green and blocking; what has been received already comes out of it first."""
        self.taken = True
        self.deadline = NEVER
        if self._registered:
            self._registered = False
            self.service.hub.detach(self.sock.fileno())
        buffer, self.buffer = bytes(self.buffer), b""
        return _Taken(self._green(), buffer) if buffer else self._green()

    def _green(self) -> Any:
        sock = greenio.GreenSocket(self.sock)
        sock.settimeout(None)  # instead of the default of socket.setdefaulttimeout
        return sock


class _Taken:
    """A green socket in front of which there are octets that had been received before it was taken."""

    def __init__(self, sock: Any, buffer: bytes) -> None:
        self._sock = sock
        self._buffer = buffer

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self._buffer:
            data, self._buffer = self._buffer[:size], self._buffer[size:]
            return data
        received: bytes = self._sock.recv(size, flags)
        return received

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def accepted(service: Service, fd: int, peer: object, kind: type = _socket.socket) -> tuple[Any, tuple[str, str]]:
    """Return the socket, non-blocking, and the peer's address.

    The C type alone: the class around it costs a dict a connection, and the properties that eventlet's needs.
    """
    sock = kind(service.family, socket.SOCK_STREAM, 0, fd)
    sock.setblocking(False)
    return sock, (one_spelling(peer[0]), str(peer[1])) if isinstance(peer, tuple) else ("", "")
