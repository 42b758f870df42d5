"""One connection's life: its phases and deadlines. Its octets are stream.py's, what is said over it request_handler.py's.

Theory of operation. Between requests a connection is an object in the hub's table and nothing more: no green thread, no timer,
no listener object. The hub calls `ready` at an edge of epoll; `advance` then reads what there is, and once a head is complete
the pool lends a green thread for the length of one request. In it, `receive` and `send` wait in the hub for the next edge.
The phases and their order are in phase.py.

A drain (server.py) changes what IDLE and NEW are allowed: a short while, and then the end. LINGER is how a connection ends
that the client may still be writing to: our side is closed first and what comes is read and thrown away for a moment, because
close(2) with unread octets would send a reset, which may destroy the answer on its way (RFC 9112 §9.6).
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from apid import scoreboard
from apid.server import unfinished
from apid.server.engines.eventlet import loop
from apid.server.interruptions import ClientSlow
from apid.server.phase import Phase
from apid.server.protocol import proxy_protocol, request_head
from apid.server.protocol.error_response import Refusal
from apid.server.protocol.head_cache import RepeatingReader
from apid.server.request_handler import Exchange
from apid.server.stream import HALF_CLOSED, Transport, accepted
from apid.server.timer_wheel import NEVER

if TYPE_CHECKING:
    from apid.server.context import Environ, Service

_EPOLLIN = 1
_BYTES_IN = scoreboard.BYTES_IN
_READABLE, _WRITABLE, _ENDED, _BROKEN = loop.READABLE, loop.WRITABLE, loop.ENDED, loop.BROKEN

BLOCK = 16384
"""Octets asked for at once while a head is awaited."""

LINGER = 0.5
"""Seconds for which an ended connection is still read from, so that the client gets to read our last answer."""

GRACE = 0.8
"""Seconds without a request after which a drain closes a connection that was not told `Connection: close`."""

_HANDSHAKE, _PREFACE, _NEW, _HEAD, _IDLE, _ACTIVE, _LINGER, _CLOSED = Phase


class Connection(Transport):
    """A connection over a plain socket.

    Attributes:
        head: of the request that is being served; exchange: its answer in the making.
        begun: part of a TLS handshake or PROXY header has come.
        lazy: the application has said (eventlet.set_idle) that a drain need not wait for this request.
        served: requests answered.
    """

    __slots__ = ("_done", "begun", "exchange", "head", "lazy", "phase", "reader", "served")

    def __init__(self, service: Service, sock: Any, address: tuple[str, str]) -> None:
        super().__init__(service, sock, address)
        self.head: request_head.Head | None = None
        self.reader: RepeatingReader | None = None
        self.exchange: Exchange | None = None
        self.begun = False
        self.lazy = False
        self.phase: Phase = _PREFACE if service.proxied and service.trusted.trusts(address[0]) else _NEW
        self.served = 0
        self._done: tuple[Callable[..., None], tuple[Any, ...]] | None = None
        service.enter(self)

    def __repr__(self) -> str:
        """Peer, phase, and what is being asked."""
        return (
            f"<Connection {self.address[0]}:{self.address[1]} {self.phase.name} served={self.served} {self.head or ''}>"
        )

    def link(self, function: Callable[..., None], *args: Any) -> None:
        """Call `function(self, *args)` at the end."""
        self._done = (function, args)

    # In the hub's greenlet

    def begin(self) -> None:
        """Start; there may be octets already."""
        now = time.monotonic()
        self.service.hub.deadlines.set(self, now + self.service.header_timeout)
        if self.service.shared.draining:
            self.drain(now)
        self.service.hub.soon.append(self.advance)

    def ready(self, events: int) -> None:
        """Edges have come; called by the hub."""
        if events == _EPOLLIN and self.phase is _IDLE and not self.buffer:
            # What nearly all edges are: the next request of a keep-alive connection.
            self.readable = True
            data = self._receive(BLOCK)
            if data:
                self.service.cells[_BYTES_IN] += len(data)
                self.buffer = data
                try:
                    if not self._parse():
                        self.advance()
                except Refusal as refusal:
                    self.refuse(refusal)
                return
        if events & _ENDED:
            self.gone_at = 0.0 if events & _BROKEN else min(self.gone_at, time.monotonic() + HALF_CLOSED)
        if events & _WRITABLE and self.writewaiter is not None:
            self.writewaiter.switch()
        if events & _READABLE:
            self.readable = True
            if self.readwaiter is not None:
                self.readwaiter.switch()
            elif self.phase < _ACTIVE:
                self.advance()
            elif self.phase is _LINGER:
                self._drink()

    def advance(self) -> None:
        """Read until there is a head to serve or nothing left to read."""
        if self.phase >= _ACTIVE:
            return
        try:
            if self.phase < _NEW and not self._preliminaries():
                self._park()
                return
            if self.buffer and self.phase is not _HEAD and self._parse():
                return
            while self.readable:
                data = self._receive(BLOCK)
                if data is None:
                    break
                if not data:
                    self._end_of_input()
                    return
                self.service.cells[_BYTES_IN] += len(data)
                if self.buffer:
                    if isinstance(self.buffer, bytes):
                        self.buffer = bytearray(self.buffer)
                    self.buffer += data
                else:
                    self.buffer = data
                if self._parse():
                    return
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self._park()

    def _preliminaries(self) -> bool:
        """What comes before HTTP: here a PROXY header. Returns whether it is over.

        It is looked at without being taken, so that what follows (TLS, if it is so) finds its first octet in the kernel.
        """
        seen = self._peek(16 + proxy_protocol.MAX_V2)
        if seen is None:
            return False
        if not seen:
            self.end()
            return False
        found = proxy_protocol.read(seen)
        if found is None:
            if self.gone_at != NEVER:
                self.finish()  # the rest will not come; it reads what has come, so that closing sends no reset
                return False
            if not self.begun:
                self._has_begun()
            self.readable = False  # the next octet brings the next edge
            return False
        self.sock.recv(found.size)
        self.own = found.own
        self.proxied = not found.own
        if self.proxied:
            self.address = found.client
        self._http_follows()
        return True

    def _http_follows(self) -> None:
        """The preliminaries are over."""
        self.begun = False
        self.phase = _NEW
        if self.service.shared.draining:
            self.drain(time.monotonic())

    def _has_begun(self) -> None:
        """The first octets have come: header_timeout is for the whole head, handshake or PROXY header, whatever their pace."""
        self.begun = self.phase < _NEW
        self.service.shared.unfinished.discard(self)  # of an earlier head
        if self.phase is _IDLE or self.service.shared.draining:
            self.service.hub.deadlines.set(self, time.monotonic() + self.service.header_timeout)

    def _parse(self) -> bool:
        """Try to make a request of the buffer; True: it is being served, or waits for a slot."""
        reader = self.reader
        if reader is None:
            reader = self.reader = RepeatingReader(self.service.limits)
        found = reader.read(self.buffer, self.service.template)
        if found is None:
            if self.phase is not _HEAD and reader.begun:
                self._has_begun()
                self.phase = _HEAD
            if len(self.buffer) > unfinished.SMALL:
                self.service.shared.unfinished.add(self)
            return False
        if self.service.settings.eventlet_headers_raw:
            lines = bytes(self.buffer[: found.size]).decode("latin-1").strip("\r\n").split("\r\n")[1:]
            found.environ["headers_raw"] = tuple(
                (name, value.strip(" \t")) for name, _, value in (x.partition(":") for x in lines)
            )
        self.head = found
        self.buffer = b"" if len(self.buffer) == found.size else self.buffer[found.size :]
        self.phase = _ACTIVE
        self.deadline = NEVER
        self.service.pool.run(self)
        return True

    def _park(self) -> None:
        """Wait for the next edge."""
        if not self._registered and self.phase is not _CLOSED:
            self._register()

    def _end_of_input(self) -> None:
        if self.phase is _HEAD:
            self.refuse(Refusal(400, "the request ended before its head was complete"))
        else:
            self.end()

    def refuse(self, refusal: Refusal) -> None:
        """Answer what is no request and close; in the hub's greenlet, so it never waits."""
        data = self.service.refusal(self, refusal)
        with contextlib.suppress(OSError):
            self._transmit(data)  # a client that does not even take 300 octets has lost its right to them
        self.finish()

    def expired(self) -> None:
        """The deadline is over; called by the hub."""
        phase = self.phase
        waiter = self.readwaiter or self.writewaiter
        if phase is _ACTIVE:
            if waiter is not None:
                self.service.cells[scoreboard.TIMEOUTS] += 1
                waiter.throw(
                    ClientSlow(
                        f"nothing from or to the client within {self.service.settings.client_socket_timeout:g} s"
                    )
                )
            elif self.lazy and self.service.shared.draining:
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_RDWR)
            else:
                self.deadline = NEVER  # nobody waits for the client: the next wait gets its whole time
        elif phase is _HEAD:
            self.service.cells[scoreboard.TIMEOUTS] += 1
            self.refuse(Refusal(408, "the head of the request did not come in time"))
        elif phase is _IDLE or phase is _NEW:
            # A request may have come this moment: it is served. One that comes later is never run.
            self.readable = True
            served = self.served
            self.advance()
            if self.phase is _HEAD and self.deadline <= time.monotonic():
                self.expired()  # the deadline was for the whole head
            elif self.phase is phase and self.served == served:
                self.service.cells[scoreboard.TIMEOUTS] += phase is _NEW
                self.finish()
        elif phase < _NEW:
            self.service.cells[scoreboard.TIMEOUTS] += 1
            self.readable = (
                True  # part of a PROXY header has been looked at and not taken: left there, it would be a reset
            )
            self.finish()
        else:
            self.end()

    def drain(self, now: float) -> None:
        """The service drains: whoever waits for nothing in particular may still do so for a moment."""
        if self.phase is _IDLE or (self.phase < _HEAD and not self.begun) or self.lazy:
            self.service.hub.deadlines.set(self, min(self.deadline, now + GRACE))

    @property
    def unfinished(self) -> bool:
        """Whether a TLS handshake or a head is under way."""
        return self.phase is _HANDSHAKE or self.phase is _HEAD

    def give_up(self) -> None:
        """End it because there are too many like it."""
        self.refuse(Refusal(503, "more unfinished requests than this server holds"))

    # In either greenlet

    def idle(self, now: float) -> None:
        """A request is answered and another may come; called at the end of a request's green thread."""
        self.head = None
        self.phase = _IDLE
        self.served += 1
        self.lazy = False
        service = self.service
        deadlines = service.hub.deadlines
        self.deadline = deadline = now + (GRACE if service.shared.draining else service.keepalive_timeout)
        if not 0 <= self.tick <= deadline * deadlines.rate:
            deadlines.set(self, deadline)
        if self._writing:
            self._writing = False
            service.hub.watch_writing(self.sock.fileno(), on=False)
        if self.buffer or self.readable:
            service.hub.soon.append(self.advance)
        elif not self._registered:
            self._register()

    def finish(self) -> None:
        """End what we say, and let the client read it: the way to close after an answer."""
        self.head = None
        if self.phase is _CLOSED:
            return
        try:
            self._say_end()
        except OSError:
            self.end()
            return
        self.phase = _LINGER
        self.buffer = b""
        self.service.hub.deadlines.set(self, time.monotonic() + LINGER)
        if not self._registered:
            self._register()
        if self.readable:
            self._drink()

    def _say_end(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def _drink(self) -> None:
        """Read and forget until the client has ended, too; a megabyte is enough of that."""
        for _ in range(16):
            data = Transport._receive(self, 65536)  # noqa: SLF001 -- below TLS: nobody reads it
            if data is None:
                return
            if not data:
                break
        self.end()

    def end(self) -> None:
        """Close at once."""
        if self.phase is _CLOSED:
            return
        self.phase = _CLOSED
        self.gone_at = 0.0
        self.head = None
        self.buffer = b""
        self.service.hub.deadlines.drop(self)
        if self._registered:
            self._registered = False
            with contextlib.suppress(OSError):
                self.service.hub.detach(self.sock.fileno())
        with contextlib.suppress(OSError):
            self.sock.close()
        self.service.leave(self)
        if self._done is not None:
            function, args = self._done
            self._done = None
            function(self, *args)

    def abort(self) -> None:
        """Close so that the client sees an error, not an end: for an answer without a length that is not complete."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.end()

    # In a request's green thread

    def serve(self) -> None:
        """Answer the request whose head has been read; called by the pool."""
        try:
            Exchange(self).run()
        except BaseException:
            self.exchange = None
            self.end()  # a bug of ours must not leave a connection behind that a drain would wait for
            raise

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self.phase is _CLOSED

    def describe(self, environ: Environ) -> None:
        """Add what only this kind of connection knows: of a plain one, nothing."""

    def set_idle(self) -> None:
        """`eventlet.set_idle`: from now on a drain need not wait for this request."""
        self.lazy = True
        if self.service.shared.draining:
            self.drain(time.monotonic())


def plain(service: Service, fd: int, peer: object) -> Connection:
    """Make a connection of an accepted descriptor; the address of a UNIX socket's peer is empty."""
    return Connection(service, *accepted(service, fd, peer))
