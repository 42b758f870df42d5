"""What comes before HTTP on a connection: a PROXY header, a TLS handshake.

Steps in the loop: a client that stalls in them costs an object and a deadline, one that breaks them off only itself.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from typing import Protocol

from apid import scoreboard
from apid.loggers import logger
from apid.server import client_hello, tls_wire
from apid.server.accounts import Accounts
from apid.server.context import Context
from apid.server.engines import base
from apid.server.protocol import proxy_protocol
from apid.server.protocol.error_response import Refusal
from apid.server.stream import Stream
from apid.server.timer_wheel import NEVER

LOG = logger(__name__)


class Starting(Protocol):
    """A connection, as far as it is needed here."""

    context: Context
    accounts: Accounts
    loop: base.Loop
    stream: Stream
    address: tuple[str, str]
    own: bool
    proxied: bool
    begun: bool
    deadline: float
    tick: int

    def expired(self) -> None:
        """The deadline is over."""

    @property
    def unfinished(self) -> bool:
        """Whether a handshake or a head is under way."""

    def give_up(self) -> None:
        """End it because there are too many like it."""

    def has_begun(self) -> None:
        """The first octets have come."""

    def refusal(self, refusal: Refusal) -> bytes:
        """Count and log a refusal, and return what to send."""

    def finish(self) -> None:
        """End what we say, and let the client read it."""

    def end(self) -> None:
        """Close at once."""


def _peek(conn: Starting, size: int) -> bytes | None:
    """Look at what has come without taking it; as `Stream.read`, of the socket itconn."""
    try:
        return bytes(conn.stream.sock.recv(size, socket.MSG_PEEK))
    except BlockingIOError:
        conn.stream.readable = False
        return None
    except OSError:
        return b""


def preface(conn: Starting) -> bool:
    """Read a PROXY header.

    It is looked at without being taken, so that what follows (TLS, if it is so) finds its first octet in the kernel.
    """
    seen = _peek(conn, 16 + proxy_protocol.MAX_V2)
    if seen is None:
        return False
    if not seen:
        conn.end()
        return False
    found = proxy_protocol.read(seen)
    if found is None:
        if conn.stream.gone_at != NEVER:
            conn.finish()  # the rest will not come; it reads what has come, so that closing sends no reset
            return False
        if not conn.begun:
            conn.has_begun()
        conn.stream.readable = False  # the next octet brings the next edge
        return False
    conn.stream.sock.recv(found.size)
    conn.own = found.own
    conn.proxied = not found.own
    if conn.proxied:
        conn.address = found.client
    return True


def handshake(conn: Starting) -> bool:
    """Go on with the TLS handshake; OpenSSL's object is made with the first octet."""
    wire = conn.stream.wire
    if not wire.begun:
        said = _peek(conn, 1)
        if said is None:
            return False
        wire.begin()
        if said:
            conn.has_begun()
            conn.accounts.unfinished.add(conn)
    if not wire.acceptable and not _look_at_offer(conn):
        return False
    try:
        if not wire.handshake():
            conn.stream.readable = False
            return False
    except tls_wire.HandshakeError as error:
        _has_failed(conn, error, unverified=error.unverified)
        if error.plain:
            # Tell who speaks HTTP without TLS, in the language that he speaks; OpenSSL has said nothing.
            data = conn.refusal(Refusal(400, "a request in plain HTTP to a port that speaks TLS"))
            with contextlib.suppress(OSError):
                conn.stream.sock.send(data)
        conn.finish()  # OpenSSL has sent an alert: it is to be read
        return False
    conn.accounts.unfinished.discard(conn)
    conn.loop.wheel.set(conn, time.monotonic() + conn.context.header_timeout)
    return True


def _look_at_offer(conn: Starting) -> bool:
    """Refuse a client that offers other protocols than HTTP/1.1; returns whether the handshake may go on."""
    stream = conn.stream
    seen = _peek(conn, client_hello.MOST)
    if seen is None:
        return False
    offered = client_hello.protocols(seen) if seen else []  # an error meets OpenSSL, too
    if offered is None and stream.gone_at == NEVER:
        stream.readable = False  # the next octet brings the next edge
        return False
    stream.wire.acceptable = not offered or b"http/1.1" in offered
    if not stream.wire.acceptable:
        _has_failed(conn, "it offers no protocol that is spoken here (ALPN)")
        with contextlib.suppress(OSError):
            stream.sock.send(client_hello.NO_APPLICATION_PROTOCOL)
        conn.finish()
    return bool(stream.wire.acceptable)


def _has_failed(conn: Starting, why: object, *, unverified: bool = False) -> None:
    level = logging.INFO if unverified else logging.DEBUG
    LOG.log(level, "TLS handshake with %s failed: %s", conn.address[0] or "unix", why)
    conn.accounts.cells[scoreboard.HANDSHAKE_FAILURES] += 1
