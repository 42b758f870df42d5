"""One connection's life: its phases and deadlines. Its octets are stream.py's, its requests request_handler.py's.

Theory of operation. Between requests a connection is an object in the loop's table and nothing more: no thread, no timer, no
listener object. The loop calls `ready` at an edge of epoll; `advance` then reads what there is, and once a head is complete the
executor runs a task for the length of one request. Until that task is done, the connection is the task's: the loop only wakes
it. The phases and their order are in phase.py.

A drain (server.py) changes what IDLE and NEW are allowed: a short while, and then the end. LINGER is how a connection ends
that the client may still be writing to: our side is closed first and what comes is read and thrown away for a moment, because
close(2) with unread octets would send a reset, which may destroy the answer on its way (RFC 9112 §9.6).
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from apid import scoreboard
from apid.hosts import one_spelling
from apid.server import preliminaries, unfinished
from apid.server.context import Context
from apid.server.engines.base import Outcome
from apid.server.phase import Phase
from apid.server.protocol import request_head
from apid.server.protocol.error_response import Refusal
from apid.server.protocol.head_cache import RepeatingReader
from apid.server.request_handler import RequestHandler
from apid.server.stream import Stream
from apid.server.timer_wheel import NEVER

_EPOLLIN = select.EPOLLIN
_BROKEN = select.EPOLLHUP | select.EPOLLERR
_ENDED = select.EPOLLRDHUP | _BROKEN
_READABLE = select.EPOLLIN | _ENDED
_WRITABLE = select.EPOLLOUT | _BROKEN
_BYTES_IN = scoreboard.BYTES_IN

BLOCK = 16384
"""Octets asked for at once while a head is awaited."""

LINGER = 0.5
"""Seconds for which an ended connection is still read from, so that the client gets to read our last answer."""

GRACE = 0.8
"""Seconds without a request after which a drain closes a connection that was not told `Connection: close`."""

HALF_CLOSED = 1.0
"""Seconds for which a client that has ended its side may still be reading: one that has left looks the same (RFC 9112 §9.6)."""

_KEEP_ALIVE = Outcome.KEEP_ALIVE
_HANDSHAKE, _PREFACE, _NEW, _HEAD, _IDLE, _ACTIVE, _LINGER, _CLOSED = Phase


class Connection:
    """A connection that has been accepted.

    Attributes:
        context: of its listener. accounts, loop: the worker's.
        stream: its octets.
        address: the client's host and port; both empty for a UNIX socket, UNKNOWN where a PROXY header does not tell them.
        own: whether the connection is the proxy's own, by its PROXY header.
        proxied: whether a PROXY header says that it is a client's.
        handler: of the request that is being served, or waits for a slot.
        begun: part of a TLS handshake or PROXY header has come.
        lazy: the application has said (eventlet.set_idle) that a drain need not wait for this request.
        served: requests answered.
        deadline, tick: for the timer wheel.
    """

    __slots__ = (
        "_done", "accounts", "address", "begun", "context", "deadline", "handler", "lazy", "loop", "own", "phase", "proxied",
        "reader", "served", "stream", "tick",
    )  # fmt: skip

    def __init__(self, context: Context, sock: Any, wire: Any, peer: object) -> None:
        """Make one of a socket and its wire, as `context.open` gives them, and its peer's address, as accept(2) gives it."""
        self.context = context
        self.accounts = context.accounts
        self.loop = context.engine.loop
        self.address = (one_spelling(peer[0]), str(peer[1])) if isinstance(peer, tuple) else ("", "")
        self.stream = Stream(sock, wire, self, context.engine, context.socket_timeout)
        self.reader: RepeatingReader | None = None
        self.handler: RequestHandler | None = None
        self.own = False
        self.proxied = False
        self.begun = False
        self.lazy = False
        self.deadline = NEVER
        self.tick = -1
        self.served = 0
        self._done: tuple[Callable[..., None], tuple[Any, ...]] | None = None
        self.phase = _NEW if context.tls is None else _HANDSHAKE
        if context.proxied and context.trusted.trusts(self.address[0]):
            self.phase = _PREFACE
        self.accounts.enter(self)

    def __repr__(self) -> str:
        """Peer, phase, and what is being asked."""
        peer = f"{self.address[0]}:{self.address[1]}"
        return f"<Connection {peer} {self.phase.name} served={self.served} {self.handler or ''}>"

    def link(self, function: Callable[..., None], *args: Any) -> None:
        """Call `function(self, *args)` at the end."""
        self._done = (function, args)

    def begin(self) -> None:
        """Start; there may be octets already."""
        now = time.monotonic()
        self.loop.wheel.set(self, now + self.context.header_timeout)
        if self.accounts.draining:
            self.drain(now)
        self.loop.call_soon(self.advance)

    def ready(self, events: int) -> None:
        """Edges have come; called by the loop."""
        stream = self.stream
        if events == _EPOLLIN and self.phase is _IDLE and not stream.buffer:
            # What nearly all edges are: the next request of a keep-alive connection.
            stream.readable = True
            data = stream.read(BLOCK)
            if data:
                self.accounts.cells[_BYTES_IN] += len(data)
                stream.buffer = data
                try:
                    if not self._parse():
                        self.advance()
                except Refusal as refusal:
                    self.refuse(refusal)
                return
        if events & _ENDED:
            stream.gone_at = 0.0 if events & _BROKEN else min(stream.gone_at, time.monotonic() + HALF_CLOSED)
        if events & _WRITABLE and stream.writer is not None:
            stream.writer()
        if events & _READABLE:
            stream.readable = True
            if stream.reader is not None:
                stream.reader()
            elif self.phase < _ACTIVE:
                self.advance()
            elif self.phase is _LINGER and stream.drink():
                self.end()

    def advance(self) -> bool:
        """Read until there is a head to serve or nothing left to read.

        Returns:
            Whether a request has begun. Then it may be over as well, or its thread may not be the loop's any more: nothing is to
            be touched.
        """
        if self.phase >= _ACTIVE:
            return False
        stream = self.stream
        try:
            if self.phase < _NEW and not self._preliminaries():
                self._park()
                return False
            if stream.buffer and self.phase is not _HEAD and self._parse():
                return True
            while stream.readable:
                data = stream.read(BLOCK)
                if data is None:
                    break
                if not data:
                    self._end_of_input()
                    return False
                self.accounts.cells[_BYTES_IN] += len(data)
                if stream.buffer:
                    if isinstance(stream.buffer, bytes):
                        stream.buffer = bytearray(stream.buffer)
                    stream.buffer += data
                else:
                    stream.buffer = data
                if self._parse():
                    return True
        except Refusal as refusal:
            self.refuse(refusal)
            return False
        self._park()
        return False

    def _preliminaries(self) -> bool:
        """What comes before HTTP: a PROXY header, a TLS handshake. Returns whether it is over."""
        if self.phase is _PREFACE:
            if not preliminaries.preface(self):
                return False
            self.phase = _NEW if self.context.tls is None else _HANDSHAKE
        if self.phase is _HANDSHAKE:
            if not preliminaries.handshake(self):
                return False
            self.phase = _NEW
        self.begun = False
        if self.accounts.draining:
            self.drain(time.monotonic())
        return True

    def has_begun(self) -> None:
        """The first octets have come: header_timeout is for the whole head, handshake or PROXY header, whatever their pace."""
        self.begun = self.phase < _NEW
        self.accounts.unfinished.discard(self)  # of an earlier head
        if self.phase is _IDLE or self.accounts.draining:
            self.loop.wheel.set(self, time.monotonic() + self.context.header_timeout)

    def _parse(self) -> bool:
        """Try to make a request of the buffer; True: it is being served, or waits for a slot."""
        stream = self.stream
        context = self.context
        reader = self.reader
        if reader is None:
            reader = self.reader = RepeatingReader(context.limits)
        found = reader.read(stream.buffer, context.template)
        if found is None:
            if self.phase is not _HEAD and reader.begun:
                self.has_begun()
                self.phase = _HEAD
            if len(stream.buffer) > unfinished.SMALL:
                self.accounts.unfinished.add(self)
            return False
        if context.headers_raw:
            found.environ["headers_raw"] = request_head.raw_fields(bytes(stream.buffer[: found.size]))
        stream.buffer = b"" if len(stream.buffer) == found.size else stream.buffer[found.size :]
        self.phase = _ACTIVE
        self.deadline = NEVER
        self.handler = handler = RequestHandler(context, stream, found, self)
        stream.executor.submit(handler)
        return True

    def _park(self) -> None:
        """Wait for the next edge."""
        if self.phase is not _CLOSED:
            self.stream.register()

    def _end_of_input(self) -> None:
        if self.phase is _HEAD:
            self.refuse(Refusal(400, "the request ended before its head was complete"))
        else:
            self.end()

    def refusal(self, refusal: Refusal) -> bytes:
        """Count and log a refusal, and return what to send."""
        return self.accounts.refusal(refusal, self.address, self.context.name)

    def refuse(self, refusal: Refusal) -> None:
        """Answer what is no request and close."""
        data = self.refusal(refusal)
        with contextlib.suppress(OSError):
            self.stream.write(data)  # a client that does not even take 300 octets has lost its right to them
        self.finish()

    def expired(self) -> None:
        """The deadline is over; called by the loop."""
        phase = self.phase
        stream = self.stream
        if phase is _ACTIVE:
            if (wake := stream.reader or stream.writer) is not None:
                if stream.until > time.monotonic():
                    self.loop.wheel.set(self, stream.until)
                    return
                stream.expired = True
                wake()
            elif self.lazy and self.accounts.draining:
                stream.shut()
            else:
                self.deadline = NEVER  # nobody waits for the client: the next wait sets its own
        elif phase is _HEAD:
            self.accounts.cells[scoreboard.TIMEOUTS] += 1
            self.refuse(Refusal(408, "the head of the request did not come in time"))
        elif phase is _IDLE or phase is _NEW:
            self.loop.call_soon(self._last_look)
        elif phase < _NEW:
            self.accounts.cells[scoreboard.TIMEOUTS] += 1
            stream.readable = (
                True  # part of a PROXY header has been looked at and not taken: left there, it would be a reset
            )
            self.finish()
        else:
            self.end()

    def _last_look(self) -> None:
        """A request may have come this moment: it is served. One that comes later is never run."""
        phase = self.phase
        if phase is not _IDLE and phase is not _NEW:
            return
        self.stream.readable = True
        if self.advance():
            return
        if self.phase is _HEAD and self.deadline <= time.monotonic():
            self.expired()  # the deadline was for the whole head
        elif self.phase is phase:
            self.accounts.cells[scoreboard.TIMEOUTS] += phase is _NEW
            self.finish()

    def drain(self, now: float) -> None:
        """The service drains: whoever waits for nothing in particular may still do so for a moment."""
        if self.phase is _IDLE or (self.phase < _HEAD and not self.begun) or self.lazy:
            self.loop.wheel.set(self, min(self.deadline, now + GRACE))

    @property
    def unfinished(self) -> bool:
        """Whether a TLS handshake or a head is under way."""
        return self.phase is _HANDSHAKE or self.phase is _HEAD

    def give_up(self) -> None:
        """End it because there are too many like it."""
        if self.phase is _HANDSHAKE:
            self.accounts.cells[scoreboard.HANDSHAKE_FAILURES] += 1
            self.end()
            return
        self.refuse(Refusal(503, "more unfinished requests than this server holds"))

    def completed(self, handler: RequestHandler, outcome: Outcome) -> None:
        """A request is over."""
        self.handler = None
        if self.phase is _CLOSED:
            return
        if outcome is not _KEEP_ALIVE:
            if outcome is Outcome.LINGER:
                self.finish()
            elif outcome is Outcome.RESET:
                self._reset()
            else:
                self.end()
            return
        # Another request may come.
        self.phase = _IDLE
        self.served += 1
        self.lazy = False
        wheel = self.loop.wheel
        self.deadline = deadline = handler.ended / 1e9 + (
            GRACE if self.accounts.draining else self.context.keepalive_timeout
        )
        if not 0 <= self.tick <= deadline * wheel.rate:
            wheel.set(self, deadline)
        stream = self.stream
        if stream.writing:
            stream.rest()
        if stream.buffer or stream.readable:
            self.loop.call_soon(self.advance)
        elif not stream.registered:
            stream.register()

    def finish(self) -> None:
        """End what we say, and let the client read it: the way to close after an answer."""
        if self.phase is _CLOSED:
            return
        stream = self.stream
        try:
            stream.say_end()
        except OSError:
            self.end()
            return
        self.phase = _LINGER
        stream.buffer = b""
        self.loop.wheel.set(self, time.monotonic() + LINGER)
        stream.register()
        if stream.readable and stream.drink():
            self.end()

    def end(self) -> None:
        """Close at once."""
        if self.phase is _CLOSED:
            return
        if self.handler is not None and self.handler.started and not self.stream.executor.interrupts:
            self.stream.shut()  # the thread that runs it has the descriptor; its end comes here again
            return
        self.phase = _CLOSED
        self.handler = None
        self.loop.wheel.drop(self)
        self.stream.close()
        self.accounts.leave(self)
        if self._done is not None:
            function, args = self._done
            self._done = None
            function(self, *args)

    def _reset(self) -> None:
        """Close so that the client sees an error, not an end: for an answer without a length that is not complete."""
        with contextlib.suppress(OSError):
            self.stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.end()

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self.phase is _CLOSED

    def set_idle(self) -> None:
        """`eventlet.set_idle`: from now on a drain need not wait for this request."""
        self.lazy = True
        if self.accounts.draining:
            self.drain(time.monotonic())
