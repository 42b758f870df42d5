"""A connection that speaks TLS; its context is tls_context.py's.

The handshake is made of steps in the hub, like the reading of a head: a client that stalls in it costs an object and a
deadline, one that breaks it off only itself.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import logging
import ssl
import time
from collections.abc import Callable
from typing import Any

from eventlet import hubs

from apid import scoreboard
from apid.loggers import logger
from apid.server import client_certificate, client_hello
from apid.server.connection import Connection
from apid.server.context import Environ, Service
from apid.server.interruptions import ClientGone
from apid.server.phase import Phase
from apid.server.protocol.error_response import Refusal
from apid.server.stream import accepted
from apid.server.timer_wheel import NEVER

LOG = logger(__name__)

_WANTS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Socket(_socket.socket):
    """What OpenSSL's object refers to weakly, which the C type alone does not allow."""

    __slots__ = ("__weakref__",)


class TlsConnection(Connection):
    """A connection over TLS.

    It drives `_ssl`'s object itself, as ssl.SSLSocket does: that class, and eventlet's copy of it, are two more layers with
    their own ideas of blocking, and cost kilobytes a connection. The object is made with the first octet: who never says
    anything costs no more than over a plain socket.
    """

    __slots__ = ("_acceptable", "_client", "_made", "_tls")

    secure = True

    def __init__(self, service: Service, fd: int, peer: object, made: Any) -> None:
        sock, address = accepted(service, fd, peer, _Socket)
        super().__init__(service, sock, address)
        self._made = made
        self._tls: Any = None
        self._acceptable = False
        self._client: dict[str, str] | None = None
        if self.phase is Phase.NEW:
            self.phase = Phase.HANDSHAKE

    def _preliminaries(self) -> bool:
        if self.phase is Phase.PREFACE:
            if not super()._preliminaries():
                return False
            self.phase = Phase.HANDSHAKE
        if self._tls is None and not self._begin_handshake():
            return False
        if not self._acceptable and not self._look_at_offer():
            return False
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.readable = False
            return False
        except (OSError, ValueError) as error:
            # SSLWantWriteError, an OSError too: some kilobytes did not fit into an empty buffer; nobody honest causes that.
            self._has_failed(error)
            if getattr(error, "reason", "") == "HTTP_REQUEST":
                self._answer_plainly()
            self.finish()  # OpenSSL has sent an alert: it is to be read
            return False
        self.service.shared.unfinished.discard(self)
        self.service.hub.deadlines.set(self, time.monotonic() + self.service.header_timeout)
        self._http_follows()
        return True

    def _begin_handshake(self) -> bool:
        """Wait for the first octet; returns whether it, or the end, has come."""
        said = self._peek(1)
        if said is None:
            return False
        self._tls = self._made._wrap_socket(self.sock, True)  # noqa: SLF001 -- see the class
        if said:
            self._has_begun()
            self.service.shared.unfinished.add(self)
        return True

    def _look_at_offer(self) -> bool:
        """Refuse a client that offers other protocols than HTTP/1.1; returns whether the handshake may go on."""
        seen = self._peek(client_hello.MOST)
        if seen is None:
            return False
        offered = client_hello.protocols(seen) if seen else []  # an error meets OpenSSL, too
        if offered is None and self.gone_at == NEVER:
            self.readable = False  # the next octet brings the next edge
            return False
        self._acceptable = not offered or b"http/1.1" in offered
        if not self._acceptable:
            self._has_failed("it offers no protocol that is spoken here (ALPN)")
            with contextlib.suppress(OSError):
                self.sock.send(client_hello.NO_APPLICATION_PROTOCOL)
            self.finish()
        return self._acceptable

    def _has_failed(self, why: object) -> None:
        level = logging.INFO if isinstance(why, ssl.SSLCertVerificationError) else logging.DEBUG
        LOG.log(level, "TLS handshake with %s failed: %s", self.address[0] or "unix", why)
        self.service.cells[scoreboard.HANDSHAKE_FAILURES] += 1

    def give_up(self) -> None:
        """End it because there are too many like it."""
        if self.phase is not Phase.HANDSHAKE:
            super().give_up()
            return
        self.service.cells[scoreboard.HANDSHAKE_FAILURES] += 1
        self.end()

    def _answer_plainly(self) -> None:
        """Tell who speaks HTTP without TLS, in the language that he speaks; OpenSSL has said nothing."""
        data = self.service.refusal(self, Refusal(400, "a request in plain HTTP to a port that speaks TLS"))
        with contextlib.suppress(OSError):
            self.sock.send(data)

    def _receive(self, size: int) -> bytes | None:
        """As the plain one; but the socket has been emptied only when TLS says that it wants more."""
        try:
            data: bytes = self._tls.read(size)
        except _WANTS:
            self.readable = False
            return None
        except (OSError, ValueError):  # also an end without close_notify: content has its own length
            return b""
        return data

    def send(self, data: bytes | memoryview) -> None:
        """As the plain one."""
        self._send_rest(data, self._transmit(data))

    def _transmit(self, data: bytes | memoryview) -> int:
        try:
            sent: int = self._tls.write(data)
        except _WANTS:
            return 0
        except (OSError, ValueError) as error:
            raise ClientGone(errno.ECONNRESET, "the client has closed the connection") from error
        return sent

    def _say_end(self) -> None:
        # The first half sends close_notify; the client's is not waited for.
        if self._tls is not None:
            with contextlib.suppress(OSError, ValueError):
                self._tls.shutdown()
        super()._say_end()

    def end(self) -> None:
        """Close at once."""
        super().end()
        self._tls = None

    def describe(self, environ: Environ) -> None:
        """Add mod_ssl's names for what applications ask about."""
        cipher = self._tls.cipher()
        environ["SSL_PROTOCOL"] = self._tls.version()
        if cipher is not None:
            environ["SSL_CIPHER"] = cipher[0]
        if self.service.verifies:
            if self._client is None:
                self._client = self._client_certificate()
            environ.update(self._client)

    def _client_certificate(self) -> dict[str, str]:
        try:
            return {"SSL_CLIENT_VERIFY": "SUCCESS"} | client_certificate.describe(self._tls.getpeercert(True))
        except ValueError as error:
            LOG.warning(
                "the certificate of %s, which is verified, cannot be read: %s", self.address[0] or "unix", error
            )
            raise Refusal(400, "the client's certificate cannot be read") from None

    def _green(self) -> Any:
        return _GreenTls(self._tls, super()._green())


class _GreenTls:
    """What `eventlet.input.get_socket()` gives: a blocking green socket, as far as protocols over HTTP need one."""

    def __init__(self, tls: Any, sock: Any) -> None:
        self._tls = tls
        self._sock = sock

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                return function(*args)
            except ssl.SSLWantReadError:
                hubs.trampoline(
                    self._sock, read=True, timeout=self._sock.gettimeout(), timeout_exc=TimeoutError("timed out")
                )
            except ssl.SSLWantWriteError:
                hubs.trampoline(
                    self._sock, write=True, timeout=self._sock.gettimeout(), timeout_exc=TimeoutError("timed out")
                )

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As a socket's; flags are not known to TLS."""
        del flags
        try:
            data: bytes = self._call(self._tls.read, size)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        return data

    def send(self, data: bytes, flags: int = 0) -> int:
        """As a socket's."""
        del flags
        sent: int = self._call(self._tls.write, data)
        return sent

    def sendall(self, data: bytes, flags: int = 0) -> None:
        """As a socket's."""
        view = memoryview(data)
        while view:
            view = view[self.send(view, flags) :]  # type: ignore[arg-type]  # any buffer will do

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)
