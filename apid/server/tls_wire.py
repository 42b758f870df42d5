"""TLS over a non-blocking socket, by OpenSSL's object itself.

ssl.SSLSocket, and eventlet's copy of it, are two more layers with their own ideas of blocking, and cost kilobytes a connection.
The object is made with the first octet: who never says anything costs no more than over a plain socket.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import ssl
from typing import Any

from apid.loggers import logger
from apid.posix import native
from apid.server import client_certificate
from apid.server.protocol.error_response import Refusal

LOG = logger(__name__)

_WANTS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Socket(_socket.socket):
    """What OpenSSL's object refers to weakly, which the C type alone does not allow."""

    __slots__ = ("__weakref__",)


class HandshakeError(Exception):
    """The handshake has failed.

    Attributes:
        plain: the client speaks HTTP without TLS. unverified: its certificate is refused.
    """

    def __init__(self, text: str, *, plain: bool, unverified: bool) -> None:
        super().__init__(text)
        self.plain = plain
        self.unverified = unverified


class TlsWire:
    """What a stream reads from and writes to where TLS is spoken.

    Attributes:
        acceptable: the protocols that the client offers have been looked at.
    """

    __slots__ = ("_client", "_context", "_lock", "_sock", "_tls", "acceptable")

    def __init__(self, sock: Socket, context: Any) -> None:
        self._sock = sock
        self._context = context
        self._tls: Any = None
        self._lock = (
            native.allocate_lock()
        )  # OpenSSL's object is for one thread at a time, and a request may be ended by another
        self._client: dict[str, str] | None = None
        self.acceptable = False

    @property
    def begun(self) -> bool:
        """Whether there is an object of OpenSSL's."""
        return self._tls is not None

    def begin(self) -> None:
        """Make it."""
        self._tls = self._context._wrap_socket(self._sock, True)  # noqa: SLF001 -- see the module

    def handshake(self) -> bool:
        """Go on with the handshake; returns whether it is over.

        Raises:
            HandshakeError: it has failed.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except (OSError, ValueError) as error:
            # SSLWantWriteError, an OSError too: some kilobytes did not fit into an empty buffer; nobody honest causes that.
            plain = getattr(error, "reason", "") == "HTTP_REQUEST"
            unverified = isinstance(error, ssl.SSLCertVerificationError)
            raise HandshakeError(str(error), plain=plain, unverified=unverified) from error
        return True

    def recv(self, size: int) -> bytes:
        """Read; empty at the end, also at one without close_notify: content has its own length.

        Raises:
            BlockingIOError: nothing is there at the moment.
        """
        try:
            with self._lock:
                data: bytes = self._tls.read(size)
        except _WANTS:
            raise BlockingIOError from None
        except (OSError, ValueError):
            return b""
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Write, and return how much was taken.

        Raises:
            BlockingIOError: there is no room.
            ConnectionResetError: the client has closed the connection.
        """
        try:
            with self._lock:
                sent: int = self._tls.write(data)
        except _WANTS:
            raise BlockingIOError from None
        except (OSError, ValueError) as error:
            raise ConnectionResetError(errno.ECONNRESET, "the client has closed the connection") from error
        return sent

    def say_end(self) -> None:
        """Send close_notify; the client's is not waited for."""
        if self._tls is not None:
            with contextlib.suppress(OSError, ValueError):
                self._tls.shutdown()

    def describe(self, environ: dict[str, Any], *, client: bool) -> None:
        """Add mod_ssl's names for what applications ask about; `client`: of the client's certificate, too."""
        cipher = self._tls.cipher()
        environ["SSL_PROTOCOL"] = self._tls.version()
        if cipher is not None:
            environ["SSL_CIPHER"] = cipher[0]
        if client:
            if self._client is None:
                self._client = self._client_certificate()
            environ.update(self._client)

    def _client_certificate(self) -> dict[str, str]:
        try:
            return {"SSL_CLIENT_VERIFY": "SUCCESS"} | client_certificate.describe(self._tls.getpeercert(True))
        except ValueError as error:
            LOG.warning("a client's certificate, which is verified, cannot be read: %s", error)
            raise Refusal(400, "the client's certificate cannot be read") from None

    def take(self) -> Any:
        """Return OpenSSL's object, for who takes the connection over."""
        return self._tls

    def close(self) -> None:
        """Forget it."""
        self._tls = None
