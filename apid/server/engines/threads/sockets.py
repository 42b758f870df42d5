"""What an application gets that takes its connection over: a blocking socket."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Any

from apid.posix import native
from apid.server.engines.taken import Received, TakenTls

_Socket = socket.socket  # before the application can replace it


def taken(sock: Any, tls: Any, received: bytes) -> Any:
    """Make it.

    Args:
        sock: the connection's socket, which stays the server's to close.
        tls: OpenSSL's object, or None.
        received: octets that have been received already.
    """
    own = _Socket(fileno=socket.dup(sock.fileno()))
    own.settimeout(None)
    if tls is not None:
        own.setblocking(False)
        made: Any = TakenTls(tls, own, _wait)
    else:
        made = own
    return Received(made, received) if received else made


def _wait(sock: socket.socket, *, writing: bool) -> None:
    poll = native.poll()
    poll.register(sock.fileno(), select.POLLOUT if writing else select.POLLIN)
    poll.poll()


class LazySocket:
    """A socket that is taken from the server once it is used."""

    def __init__(self, take: Callable[[], Any]) -> None:
        self._take = take
        self._sock: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._sock is None:
            self._sock = self._take()
        return getattr(self._sock, name)
