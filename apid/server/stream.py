"""The octets of one connection: reading and sending without blocking, and the waiting of a task.

A stream has a socket and a wire: where TLS is spoken, the wire is tls_wire.py's, otherwise it is the socket itself. Both have
`recv` and `send`, which raise BlockingIOError. How a task waits is the engine's.

Edge-triggered means: after an edge, what is there has to be read to its end, because no second edge tells of it. `readable` is
that knowledge: true from the edge on until a read found less than it asked for. It survives whoever reads.

No HTTP here, and no decision about the connection's life: that is connection.py's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from typing import Any

from apid.hosts import one_spelling
from apid.server.engines import base
from apid.server.interruptions import ClientGone, ClientSlow
from apid.server.timer_wheel import NEVER

TURN = 10_000_000
"""Nanoseconds for which a request that never has to wait goes on before everybody else has a turn."""

GONE = {errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN, errno.ENOTCONN}


class Stream:
    """A non-blocking socket, registered with the loop once it has to be waited for.

    Attributes:
        sock: the socket, non-blocking. wire: what reads and writes.
        secure: whether the wire is TLS.
        session: who the loop calls. loop, executor: the engine's.
        timeout: seconds in which a client has to make progress; NEVER for no limit.
        taken: the application has taken the socket over.
        buffer: received and not yet consumed.
        readable: whether the kernel may have more.
        received: octets taken from the wire by a task; waits: those of it that ended because the client was slow. Its end
            counts them.
        gone_at: seconds of the monotonic clock from which the client has left, as far as is known; NEVER while it is there.
        turn: nanoseconds of the monotonic clock until which a request may go on without a pause; 0 before it is looked at.
        until, expired, reader, writer: of whom waits (base.Waiting).
    """

    __slots__ = (
        "_local", "buffer", "executor", "expired", "gone_at", "loop", "readable", "reader", "received", "registered", "secure",
        "session", "sock", "taken", "timeout", "turn", "until", "waits", "wire", "writer", "writing",
    )  # fmt: skip

    def __init__(self, sock: Any, wire: Any, session: base.Session, engine: base.Engine, timeout: float) -> None:
        self.sock = sock
        self.wire = wire
        self.secure = wire is not sock
        self.session: Any = session
        self.loop = engine.loop
        self.executor = engine.executor
        self.timeout = timeout
        self.buffer: bytes | bytearray = b""
        self.taken = False
        self.readable = True
        self.received = 0
        self.waits = 0
        self.gone_at = NEVER
        self.turn = 0
        self.until = NEVER
        self.expired = False
        self.reader: Any = None
        self.writer: Any = None
        self.registered = False
        self.writing = False
        self._local = ""

    # Without waiting

    def register(self) -> None:
        """Let the loop report edges."""
        if not self.registered:
            self.registered = True
            self.loop.attach(self.sock.fileno(), self.session)

    def unregister(self) -> None:
        """Undo it."""
        if self.registered:
            self.registered = False
            with contextlib.suppress(OSError):
                self.loop.detach(self.sock.fileno())

    def rest(self) -> None:
        """Between two requests nobody waits to write."""
        if self.writing:
            self.writing = False
            self.loop.watch_writing(self.sock.fileno(), on=False)

    def read(self, size: int) -> bytes | None:
        """Read what there is: None for nothing at the moment, empty for the end."""
        try:
            data: bytes = self.wire.recv(size)
        except BlockingIOError:
            self.readable = False
            return None
        except OSError:
            return b""
        # A short read has emptied the socket, but not TLS; and the end of the stream, if it came with the same edge, is still
        # to be read.
        if len(data) < size and self.gone_at == NEVER and not self.secure:
            self.readable = False
        return data

    def write(self, data: bytes | memoryview) -> int:
        """Hand the kernel what it takes, and return how much that is.

        Raises:
            ClientGone: it does not read at all any more.
        """
        try:
            sent: int = self.wire.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ClientGone(error.errno, "the client has closed the connection") from error
        return sent

    def say_end(self) -> None:
        """End our side; raises OSError."""
        if self.secure:
            self.wire.say_end()
        self.sock.shutdown(socket.SHUT_WR)

    def drink(self) -> bool:
        """Read and forget, below TLS. Returns whether the client has ended, or sent a megabyte without an end."""
        for _ in range(16):
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                self.readable = False
                return False
            except OSError:
                break
            if not data:
                break
        return True

    # In a task

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
                found = self.read(size)
                if found is not None:
                    self.received += len(found)
                    return found
            self._wait(writing=False)

    def send(self, data: bytes | memoryview) -> None:
        """Send all octets, waiting where the client reads slowly.

        Raises:
            ClientGone: it does not read at all any more.
            ClientSlow: client_socket_timeout is over.
        """
        # What `write` does, in place: nearly every answer goes out by this one call.
        try:
            sent: int = self.wire.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGone(error.errno, "the client has closed the connection") from error
        if sent != len(data):
            view = memoryview(data)[sent:]
            while view:
                self._await_room()
                view = view[self.write(view) :]

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

    def _await_room(self) -> None:
        self._wait(writing=True)
        self.until = NEVER  # the kernel tells of room only once the client has taken a good part of what waits

    def _wait(self, *, writing: bool) -> None:
        if self.until == NEVER:
            self.until = time.monotonic() + self.timeout
        self.executor.wait(self, writing=writing)
        if self.expired:
            self.expired = False
            self.until = NEVER
            self.waits += 1
            raise ClientSlow(f"nothing from or to the client within {self.timeout:g} s")

    def progress(self) -> None:
        """Enough has come or gone: client_socket_timeout restarts."""
        self.until = NEVER

    def moved(self) -> None:
        """Octets have come or gone: now and then, let everything else that is ready go first.

        A client that is as fast as the application gives no reason to wait, and would have the worker to itself until that one
        looks hung.
        """
        if self._goes_on():
            return
        self.executor.pause()
        self.turn = time.monotonic_ns() + TURN

    def _goes_on(self) -> bool:
        """Whether the turn lasts; the first look begins it."""
        now = time.monotonic_ns()
        if not self.turn:
            self.turn = now + TURN
        return now < self.turn

    def client_gone(self) -> bool:
        """Return whether the client has ended the connection or its side of it; `environ["apid.client_gone"]`.

        This is what the loop has seen, so a task that never waits never learns of it. No system call, but for the first call
        on a connection that has not been waited for yet.
        """
        if self.gone_at == NEVER and not self.registered and not self.taken:
            self.register()
        return self.gone_at != NEVER

    def passed(self) -> None:
        """The application has given a piece of which nothing is sent: as `moved`; nothing but this tells that the client left.

        Raises:
            ClientGone: it has.
        """
        if self._goes_on():
            return
        self.client_gone()
        self.moved()
        if self.gone_at <= time.monotonic():
            raise ClientGone(errno.ECONNRESET, "the client has closed the connection before the end of its answer")

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

    def shut(self) -> None:
        """End it for whoever is reading or sending in another thread, which keeps the descriptor until it is done."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it, and let nobody be called for it."""
        if self.taken:
            self.shut()  # it ends with its request, whoever still has a descriptor
        self.gone_at = 0.0
        self.buffer = b""
        self.unregister()
        try:  # noqa: SIM105 -- contextlib's costs a microsecond
            self.sock.close()
        except OSError:
            pass
        if self.secure:
            self.wire.close()
        self.session = None

    def detach(self) -> Any:
        """Hand the socket over to the application, blocking as the engine has it."""
        self.taken = True
        self.unregister()
        received, self.buffer = bytes(self.buffer), b""
        return self.executor.detach(self.sock, self.wire, received)
