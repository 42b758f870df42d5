"""Descriptors in messages (SCM_RIGHTS, unix(7)), which a socket of this daemon shall not receive.

The kernel closes a descriptor that nobody takes, in the process that receives or drops the message. If it is the last one of a
TCP connection with SO_LINGER and unsent data, the close waits as long as the sender wants, or until a signal comes (socket(7)).
"""

from __future__ import annotations

import contextlib
import socket

_SO_PASSRIGHTS = 83
"""asm-generic/socket.h, since Linux 6.16; Python has no name for it."""


def refuse(sock: socket.socket) -> bool:
    """Have the kernel refuse (EPERM) to send descriptors to a UNIX socket and those accepted from it; returns whether it does."""
    with contextlib.suppress(OSError):  # an older kernel, or no UNIX socket
        sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
        return True
    return False
