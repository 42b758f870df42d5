"""The parts of a socket that an application has taken over, whatever the engine: TLS, and what had been received before."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any


class TakenTls:
    """A blocking socket over TLS, as far as protocols over HTTP need one."""

    def __init__(self, tls: Any, sock: Any, wait: Callable[..., object]) -> None:
        """Make one.

        Args:
            tls: OpenSSL's object.
            sock: the socket below it, non-blocking.
            wait: called with the socket and `writing`; returns when it is ready.
        """
        self._tls = tls
        self._sock = sock
        self._wait = wait

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                return function(*args)
            except ssl.SSLWantReadError:
                self._wait(self._sock, writing=False)
            except ssl.SSLWantWriteError:
                self._wait(self._sock, writing=True)

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


class Received:
    """A socket in front of which there are octets that had been received before it was taken."""

    def __init__(self, sock: Any, buffer: bytes) -> None:
        self._sock = sock
        self._buffer = buffer

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As a socket's."""
        if self._buffer:
            data, self._buffer = self._buffer[:size], self._buffer[size:]
            return data
        received: bytes = self._sock.recv(size, flags)
        return received

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)
