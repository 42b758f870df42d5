"""Descriptors in messages (SCM_RIGHTS, unix(7)): only a mold receives any, from its parent; other sockets refuse them.

The kernel closes a descriptor that nobody takes, in the process that receives or drops the message. If it is the last one of a
TCP connection with SO_LINGER and unsent data, the close waits as long as the sender wants, or until a signal comes (socket(7)).
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Sequence
from socket import socket as _socket  # before eventlet replaces it

_SO_PASSRIGHTS = 83
"""asm-generic/socket.h, since Linux 6.16; Python has no name for it."""

_SO_PASSCRED = 16
_SCM_CREDENTIALS = 2
_CREDENTIALS = struct.Struct("=iII")
"""asm-generic/socket.h and linux/socket.h; `struct ucred`: pid, uid, gid."""

AT_ONCE = 250
"""Descriptors in one message: the kernel takes 253."""

_MORE = b"+"
"""The content of a message that carries only descriptors."""


def refuse(sock: socket.socket) -> bool:
    """Have the kernel refuse (EPERM) to send descriptors to a UNIX socket and those accepted from it; returns whether it does."""
    with contextlib.suppress(OSError):  # an older kernel, or no UNIX socket
        sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
        return True
    return False


def send(sock: socket.socket, packet: bytes, descriptors: Sequence[int]) -> None:
    """Send a packet and any number of descriptors, in several messages where they are many.

    Raises:
        OSError: they cannot be sent, or not all of them.
    """
    for start in range(0, max(1, len(descriptors)), AT_ONCE):
        part = array.array("i", descriptors[start : start + AT_ONCE])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, part)] if part else []
        sock.sendmsg([_MORE if start else packet], rights)


def receive(sock: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """Receive a packet of at most `size` bytes and the descriptors of its message, close-on-exec; blocks.

    Raises:
        OSError: EMFILE among them: this process may not have so many descriptors.
    """
    room = socket.CMSG_SPACE(AT_ONCE * array.array("i").itemsize)
    packet, ancillary, flags, _ = sock.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    if flags & socket.MSG_CTRUNC:
        for fd in found:
            os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return packet, found.tolist()


def receive_more(sock: socket.socket, found: list[int], number: int) -> None:
    """Receive what is missing of `number` descriptors of a packet that `send` has sent; blocks.

    Raises:
        ValueError: what comes is something else, or one too many. OSError: as `receive`.
    """
    while len(found) < number:
        packet, more = receive(sock, len(_MORE) + 1)
        if packet != _MORE or not more:
            raise ValueError(f"{len(found)} of {number} descriptors have come")
        found += more
    if len(found) > number:
        raise ValueError(f"{len(found)} instead of {number} descriptors have come")


def stream(fd: int) -> socket.socket:
    """Return the plain, non-blocking socket of a descriptor, whatever the application has made the default."""
    sock = _socket(fileno=fd)
    sock.setblocking(False)
    return sock


def know_senders(sock: socket.socket, *, on: bool) -> None:
    """Have the kernel say which process sends a packet, or no longer (SO_PASSCRED)."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_PASSCRED, int(on))


def receive_from(sock: socket.socket, size: int) -> tuple[bytes, int]:
    """Receive a packet and the pid of its sender, which the kernel vouches for; 0 where it does not say.

    Raises:
        OSError: BlockingIOError among them.
    """
    packet, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(_CREDENTIALS.size))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SCM_CREDENTIALS) and len(data) >= _CREDENTIALS.size:
            return packet, _CREDENTIALS.unpack_from(data)[0]
    return packet, 0
