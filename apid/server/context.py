"""What connections share: of a worker, and of one of its listeners. Numbers and settings; no I/O, no decisions."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from apid import forwarded, hosts, scoreboard
from apid.conf.settings import Http
from apid.flight import request_id_prefix
from apid.loggers import logger
from apid.server.access_log import AccessLog
from apid.server.engines.eventlet.executor import Pool
from apid.server.engines.eventlet.loop import Hub
from apid.server.file_wrapper import FileWrapper
from apid.server.protocol import error_response
from apid.server.protocol.request_head import Limits
from apid.server.protocol.response_head import Date
from apid.server.timer_wheel import NEVER
from apid.server.unfinished import Unfinished

if TYPE_CHECKING:
    from apid.server.connection import Connection

LOG = logger(__name__)

Environ = dict[str, Any]
App = Callable[..., Any]

_OCTETS = [f"{octet:02x}" for octet in range(256)]


class ErrorStream:
    """`wsgi.errors`: lines that an application writes go to the log."""

    def __init__(self) -> None:
        self._log = logger("apid.wsgi.errors")
        self._rest = ""

    def write(self, text: str) -> None:
        """Log complete lines, keep the rest."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._log.error("%s", line)

    def writelines(self, lines: list[str]) -> None:
        """Write each."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Log what has no line end yet."""
        if self._rest:
            self.write("\n")


class Shared:
    """What all connections of a worker share.

    Attributes:
        number: of the last request; request ids are made of it.
        id_prefix: what this worker's request ids have in common.
        draining: whether this worker drains; closing: whether responses announce the end of their connections.
        connections: all open ones; unfinished: those among them whose number is limited.
        access_log: None when off.
    """

    def __init__(self, hub: Hub, pool: Pool, row: scoreboard.Row, settings: Http) -> None:
        self.hub = hub
        self.pool = pool
        self.row = row
        self.settings = settings
        self.limits = Limits.of(settings)
        self.number = 0
        self.date = Date()
        self.draining = False
        self.closing = not settings.keepalive
        self.accepting = False
        self.connections: set[Connection] = set()
        self.unfinished = Unfinished()
        self.access_log: AccessLog | None = None
        if settings.access_log != "off":
            self.access_log = AccessLog(settings, hub.schedule_call_global, self._count_lost)
        # A UUID's version and variant bits (RFC 9562 §5.4), so that who validates ids is content.
        high = int.from_bytes(os.urandom(8), "big") & ~0xF000 | 0x4000
        low = int.from_bytes(os.urandom(2), "big") & 0x3FFF | 0x8000
        row.cells[scoreboard.REQUEST_ID_HIGH], row.cells[scoreboard.REQUEST_ID_LOW] = high, low
        self.id_prefix = request_id_prefix(high, low)
        self._id_begin = ""
        self._begin_ids()
        row.cells[scoreboard.POOL_LIMIT] = settings.pool_size

    def next_id(self) -> str:
        """Make the id of the next request, or of what is answered without becoming one; `number` is its number."""
        self.number = number = self.number + 1
        octet = number & 0xFF
        if not octet:
            self._begin_ids()
        return self._id_begin + _OCTETS[octet]

    def _begin_ids(self) -> None:
        """Formatting a number costs: all but its last octet is done once in 256 times."""
        self._id_begin = f"{self.id_prefix}{self.number >> 8:010x}"

    def _count_lost(self, lines: int) -> None:
        self.row.cells[scoreboard.ACCESS_LOG_LOST] += lines

    def gauge(self) -> None:
        """Write the numbers of the moment."""
        cells = self.row.cells
        busy = self.pool.busy
        if cells[scoreboard.IN_FLIGHT] != busy:
            cells[scoreboard.IN_FLIGHT] = busy
            cells[scoreboard.IDLE] = max(0, len(self.connections) - busy)

    def count(self) -> None:
        """Write how many connections there are, for the siblings and for whoever looks."""
        count = len(self.connections)
        cells = self.row.cells
        cells[scoreboard.CONNECTIONS] = count
        cells[scoreboard.IDLE] = max(0, count - self.pool.busy)
        self.row.connections[self.row.index] = count if self.accepting else scoreboard.CLOSED


class Service:
    """What all connections of one listener share.

    Attributes:
        template: what every environ begins with.
        trusted: the proxies that are believed. allowed: the hosts that are answered for.
        proxied: whether these proxies send a PROXY header first; not over a UNIX socket.
        complete: adds what only the connection knows; None where that is nothing.
    """

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        app: App,
        shared: Shared,
        environ: Mapping[str, object],
        *,
        settings: Http,
        secure: bool,
        verifies: bool,
    ) -> None:
        self.name = name
        self.app = app
        self.shared = shared
        self.hub = shared.hub
        self.pool = shared.pool
        self.row = shared.row
        self.cells = shared.row.cells
        self.histogram = shared.row.histogram
        self.settings = settings
        self.trusted = forwarded.TrustedProxies(settings.trusted_proxies, settings.trusted_proxy_headers)
        self.allowed = hosts.AllowedHosts(settings.allowed_hosts)
        self.limits = shared.limits
        self.header_timeout = settings.header_timeout or NEVER  # 0 is off
        self.keepalive_timeout = settings.keepalive_timeout or NEVER
        self.family = int(sock.family)
        address = sock.getsockname()
        inet = isinstance(address, tuple)
        self.wildcard = inet and address[0] in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        self.verifies = verifies
        self.proxied = settings.proxy_protocol and inet
        scheme = "https" if secure else "http"
        self.template: Environ = {
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_SOFTWARE": "apid",
            "SERVER_NAME": hosts.one_spelling(address[0]) if inet else "localhost",
            "SERVER_PORT": str(address[1]) if inet else {"http": "80", "https": "443"}[scheme],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scheme,
            "wsgi.errors": ErrorStream(),
            "wsgi.multithread": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
            **environ,
        }
        if secure:
            self.template["HTTPS"] = "on"
        if settings.allowed_hosts:
            self.template["apid.host_allowed"] = True
        self.complete: Callable[[Connection, Environ], None] | None = None
        if self.wildcard or secure or self.trusted or self.allowed:
            self.complete = self._complete

    def _complete(self, conn: Connection, environ: Environ) -> None:
        if self.wildcard:
            environ["SERVER_NAME"] = conn.local
        conn.describe(environ)
        own = environ["SERVER_NAME"]
        if conn.proxied:
            environ[forwarded.PROXIED] = True
        if conn.own:
            forwarded.remove(environ)
        elif self.trusted:
            self.trusted.apply(environ)
        if self.allowed and not self.allowed.allows(environ.get("HTTP_HOST"), own):
            # RFC 9110 §15.5.20: this server does not answer for that host
            raise error_response.Refusal(421, "the host of the request is not one of this listener's allowed_hosts")

    def enter(self, conn: Connection) -> None:
        """A connection has been accepted."""
        self.shared.connections.add(conn)
        self.shared.count()

    def leave(self, conn: Connection) -> None:
        """A connection is over."""
        self.shared.connections.discard(conn)
        self.shared.unfinished.discard(conn)
        self.shared.count()

    def interim(self, size: int) -> None:
        """An interim answer of so many octets has been sent: a final one will follow."""
        self.cells[scoreboard.STATUS_1XX] += 1
        self.cells[scoreboard.BYTES_OUT] += size

    def refusal(self, conn: Connection, refused: error_response.Refusal) -> bytes:
        """Note a refusal and write its answer."""
        shared = self.shared
        request_id = shared.next_id()
        cells = self.cells
        data = error_response.response(refused, request_id, shared.date.field[6:-2])
        self.row.refuse(refused.status)
        cells[scoreboard.BYTES_OUT] += len(data)
        cells[scoreboard.STATUS_1XX - 1 + refused.status // 100] += 1
        LOG.info("%s: refused a request from %s: %s", request_id, conn.address[0] or "unix", refused)
        if shared.access_log is not None:
            shared.access_log.refused(conn, refused, request_id, len(data))
        return data
