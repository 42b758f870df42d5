"""How many connections wait in the kernel for an accept(2), by listening socket. Linux; numbers for TCP only."""

from __future__ import annotations

import dataclasses
import select
import socket
import struct

_TCP_INFO = struct.Struct("=8x4x4x4x4xII")
"""tcp_info of linux/tcp.h up to tcpi_unacked and tcpi_sacked: of a listening socket they are the queue and its limit."""

_SO_MEMINFO = 55
"""asm-generic/socket.h, since Linux 4.12; Python has no name for it."""

_DROPS = struct.Struct("=32xI")
"""SK_MEMINFO_DROPS of linux/sock_diag.h: connections that found the queue full, and SYNs dropped for other reasons."""


@dataclasses.dataclass(frozen=True, slots=True)
class AcceptQueue:
    """Of one listening socket: connections not yet accepted, how many there may be, how many were dropped so far."""

    depth: int
    limit: int
    drops: int


def look(sock: socket.socket) -> AcceptQueue | None:
    """Ask the kernel; None where it does not say (UNIX sockets, a socket that is closed)."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        depth, limit = _TCP_INFO.unpack_from(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
        (drops,) = _DROPS.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _DROPS.size))
    except (OSError, struct.error):
        return None
    return AcceptQueue(depth, limit, drops)


def waiting(sock: socket.socket) -> int:
    """Return how many connections wait; of a UNIX socket Linux tells only whether any does: 1 or 0."""
    found = look(sock)
    if found is not None:
        return found.depth
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return int(any(event & select.POLLIN for _, event in poll.poll(0)))
