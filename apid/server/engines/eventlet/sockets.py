"""What an application gets that takes its connection over: a green socket, blocking as far as it sees."""

from __future__ import annotations

import socket
from typing import Any

from eventlet import greenio, hubs

from apid.server.engines.taken import Received, TakenTls


def taken(sock: socket.socket, tls: Any, received: bytes) -> Any:
    """Make it.

    It has a descriptor of its own: eventlet never wakes a thread that waits for one that was closed, and lets it disturb whoever
    has the number next. So the server shuts the connection, which wakes it, and closes only its own descriptor.

    Args:
        sock: the connection's socket.
        tls: OpenSSL's object, or None.
        received: octets that have been received already.
    """
    green = greenio.GreenSocket(fileno=socket.dup(sock.fileno()))
    green.settimeout(None)  # instead of the default of socket.setdefaulttimeout
    made = green if tls is None else TakenTls(tls, green, _wait)
    return Received(made, received) if received else made


def _wait(sock: Any, *, writing: bool) -> None:
    timeout = sock.gettimeout()
    hubs.trampoline(sock, read=not writing, write=writing, timeout=timeout, timeout_exc=TimeoutError("timed out"))
