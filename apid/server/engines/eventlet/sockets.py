"""What an application gets that takes its connection over: a green socket, blocking as far as it sees."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from eventlet import greenio, hubs


def taken(sock: socket.socket, tls: Any, received: bytes) -> Any:
    """Make it.

    Args:
        sock: the connection's socket.
        tls: OpenSSL's object, or None.
        received: octets that have been received already.
    """
    green = greenio.GreenSocket(sock)
    green.settimeout(None)  # instead of the default of socket.setdefaulttimeout
    made = green if tls is None else _GreenTls(tls, green)
    return _Taken(made, received) if received else made


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
