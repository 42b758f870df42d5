"""What the connections of a listener share: frozen values, and the environ that every request begins with."""

from __future__ import annotations

import _socket
import dataclasses
import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from apid import forwarded, hosts
from apid.conf.settings import Http
from apid.loggers import logger
from apid.server import tls_wire
from apid.server.accounts import Accounts
from apid.server.engines import base
from apid.server.file_wrapper import FileWrapper
from apid.server.protocol.error_response import Refusal
from apid.server.protocol.request_head import Limits
from apid.server.timer_wheel import NEVER

Environ = dict[str, Any]
App = Callable[..., Any]


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


class Origin(Protocol):
    """What a PROXY header says of a connection.

    Attributes:
        own: it is the proxy's own. proxied: it is a client's.
    """

    own: bool
    proxied: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Of one listener.

    Attributes:
        name: the listener's.
        app: what answers.
        accounts: the worker's.
        engine: what runs requests.
        family: of the listening socket.
        tls: the context for TLS; None for plain HTTP. verifies: clients show certificates.
        template: what every environ begins with.
        limits: of a request's head and content.
        trusted: the proxies that are believed. allowed: the hosts that are answered for.
        proxied: trusted proxies send a PROXY header first; not over a UNIX socket.
        wildcard: the listener's address tells nothing of a connection's.
        headers_raw: environs have eventlet's headers_raw.
        completes: an environ needs `complete`.
        decorate, hooks: the engine's. claims: it cannot end a request, so that another thread may answer in its place.
        header_timeout, keepalive_timeout, socket_timeout: seconds; NEVER where there is no limit.
    """

    name: str
    app: App
    accounts: Accounts
    engine: base.Engine
    family: int
    tls: Any
    verifies: bool
    template: Environ
    limits: Limits
    trusted: forwarded.TrustedProxies
    allowed: hosts.AllowedHosts
    proxied: bool
    wildcard: bool
    headers_raw: bool
    completes: bool
    decorate: Callable[[Environ, Any, Any], None] | None
    hooks: str
    claims: bool
    header_timeout: float
    keepalive_timeout: float
    socket_timeout: float

    def open(self, fd: int) -> tuple[Any, Any]:
        """Make the socket of an accepted descriptor, and the wire over it: where no TLS is spoken, the socket itself."""
        # The C type alone: the class around it costs a dict a connection, and the properties that a patched one needs.
        if self.tls is None:
            sock = _socket.socket(self.family, socket.SOCK_STREAM, 0, fd)
            sock.setblocking(False)
            return sock, sock
        secure = tls_wire.Socket(self.family, socket.SOCK_STREAM, 0, fd)
        secure.setblocking(False)
        return secure, tls_wire.TlsWire(secure, self.tls)

    def complete(self, environ: Environ, conn: Origin, local: str, tls: Any) -> None:
        """Add what only the connection knows.

        Args:
            environ: of a request, its peer's address in it.
            conn: what a PROXY header has said of the connection.
            local: our own address of the connection.
            tls: its TLS wire; None for a plain one.

        Raises:
            Refusal: the request is for a host that is not answered for.
        """
        if self.wildcard:
            environ["SERVER_NAME"] = local
        if tls is not None:
            tls.describe(environ, client=self.verifies)
        own = environ["SERVER_NAME"]
        if conn.proxied:
            environ[forwarded.PROXIED] = True
        if conn.own:
            forwarded.remove(environ)
        elif self.trusted:
            self.trusted.apply(environ)
        if self.allowed and not self.allowed.allows(environ.get("HTTP_HOST"), own):
            # RFC 9110 §15.5.20: this server does not answer for that host
            raise Refusal(421, "the host of the request is not one of this listener's allowed_hosts")


def make(
    name: str,
    sock: socket.socket,
    app: App,
    *,
    accounts: Accounts,
    engine: base.Engine,
    environ: Mapping[str, object],
    settings: Http,
    tls: Any,
    verifies: bool,
) -> Context:
    """Make the context of a listener.

    Args:
        name: the listener's.
        sock: its socket.
        app: what answers.
        accounts: the worker's.
        engine: what runs requests.
        environ: entries for every environ.
        settings: of this listener.
        tls: the context for TLS, or None.
        verifies: clients show certificates.
    """
    address = sock.getsockname()
    inet = isinstance(address, tuple)
    wildcard = inet and address[0] in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
    trusted = forwarded.TrustedProxies(settings.trusted_proxies, settings.trusted_proxy_headers)
    allowed = hosts.AllowedHosts(settings.allowed_hosts)
    scheme = "http" if tls is None else "https"
    template: Environ = {
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
        **engine.environ,
        **environ,
    }
    if tls is not None:
        template["HTTPS"] = "on"
    if settings.allowed_hosts:
        template["apid.host_allowed"] = True
    return Context(
        name=name,
        app=app,
        accounts=accounts,
        engine=engine,
        family=int(sock.family),
        tls=tls,
        verifies=verifies,
        template=template,
        limits=Limits.of(settings),
        trusted=trusted,
        allowed=allowed,
        proxied=settings.proxy_protocol and inet,
        wildcard=wildcard,
        headers_raw=settings.eventlet_headers_raw,
        completes=bool(wildcard or tls is not None or trusted or allowed),
        decorate=engine.decorate,
        hooks=engine.hooks,
        claims=not engine.executor.interrupts,
        header_timeout=settings.header_timeout or NEVER,  # 0 is off
        keepalive_timeout=settings.keepalive_timeout or NEVER,
        socket_timeout=settings.client_socket_timeout or NEVER,
    )
