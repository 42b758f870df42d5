"""Listening sockets: bind, adopt, and name them. TCP over IPv4 and IPv6, UNIX, and descriptors from someone else."""

from __future__ import annotations

import dataclasses
import encodings.idna  # noqa: F401 - getaddrinfo encodes names with it, and the parent imports nothing once it serves
import errno
import socket
from typing import TYPE_CHECKING

from apid.errors import BindError
from apid.posix import occupants, rights, socketfile
from apid.posix.socketfile import SocketFile

if TYPE_CHECKING:  # the wrappers load nothing but the standard library
    from apid.conf.settings import Address


OUTGOING = (
    " (no process listens there: it is the local port of an outgoing connection, open or in TIME_WAIT; choose a port outside of "
    "net.ipv4.ip_local_port_range, or name it in net.ipv4.ip_local_reserved_ports)"
)
"""The kernel lends a port of that range to any program that calls connect(2); SO_REUSEADDR would have to be set at both ends."""

NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""How the kernel says that this machine does not have an IPv6 address, or no IPv6 at all."""


def bind(
    address: Address,
    *,
    backlog: int,
    tcp_keepidle: int,
    inherited: dict[str, socket.socket],
) -> socket.socket:
    """Return a socket that listens on `address` (tcp or fd), non-blocking and close-on-exec.

    Options that accepted sockets inherit on Linux are set here once: TCP_NODELAY (an answer in two writes must not wait for
    an acknowledgement, RFC 896), SO_KEEPALIVE and TCP_KEEPIDLE.

    Raises:
        BindError: with the address and the cause.
    """
    if address.kind == "fd":
        return _adopt(address, inherited)
    return _bind_tcp(address, backlog, tcp_keepidle)


def bind_unix(address: Address, *, backlog: int, umask: int | None) -> tuple[socket.socket, SocketFile]:
    """Return a socket that listens at the path of `address`, as `socketfile.listen`.

    Raises:
        BindError: with the address and the cause.
    """
    try:
        return socketfile.listen(address.path, backlog, umask)
    except OSError as error:
        raise BindError(f"cannot listen on {address}: {error.strerror or error}") from error


def _adopt(address: Address, inherited: dict[str, socket.socket]) -> socket.socket:
    sock = inherited.get(address.name)
    if sock is None:
        known = ", ".join(sorted(inherited)) or "none"
        raise BindError(f"cannot listen on {address}: no such descriptor was handed over (LISTEN_FDNAMES: {known})")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise BindError(f"cannot listen on {address}: the descriptor handed over is not a listening socket")
    del inherited[address.name]  # it is a listener's from here on, and no leftover
    sock.setblocking(False)
    rights.refuse(sock)
    return sock


def probe(address: Address) -> None:
    """Say whether `address` (tcp with numbers, or unix) could be bound, without listening there for a moment.

    Raises:
        BindError: as `bind`.
    """
    if address.kind == "tcp":
        _bound_tcp(address).close()
        return
    obstacle = socketfile.obstacle(address.path)
    if obstacle is not None:
        raise BindError(f"cannot listen on {address}: {obstacle.strerror}") from obstacle


def claim(address: Address) -> SocketFile:
    """Lock the path of a UNIX socket that was handed over listening, as `SocketFile.claim`.

    Raises:
        BindError: another process has locked it.
    """
    try:
        return SocketFile.claim(address.path)
    except OSError as error:
        raise BindError(f"cannot listen on {address}: {error.strerror or error}") from error


def _bind_tcp(address: Address, backlog: int, tcp_keepidle: int) -> socket.socket:
    sock = _bound_tcp(address)
    try:
        tune(sock, backlog=backlog, tcp_keepidle=tcp_keepidle)
        sock.setblocking(False)
    except BaseException as error:
        sock.close()
        if not isinstance(error, OSError):
            raise
        raise BindError(f"cannot listen on {address}: {_explain(error)}") from error
    return sock


def _bound_tcp(address: Address) -> socket.socket:
    family, kind, proto, _, target = _lookup(address)[0]
    try:
        sock = socket.socket(family, kind, proto)
    except OSError as error:  # IPv6 may be turned off
        raise BindError(f"cannot listen on {address}: {_explain(error)}") from error
    try:
        # Restarting must not wait for TIME_WAIT; two daemons on one port still exclude each other (no SO_REUSEPORT).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(target)
    except BaseException as error:
        sock.close()
        if not isinstance(error, OSError):
            raise
        text = _explain(error)
        taken = error.errno == errno.EADDRINUSE and occupants.visible()
        if taken and not occupants.of_tcp(target[0], address.port, overlapping=True):
            text += OUTGOING
        raise BindError(f"cannot listen on {address}: {text}") from error
    return sock


def tune(sock: socket.socket, *, backlog: int, tcp_keepidle: int) -> None:
    """Listen with this backlog, and have accepted connections probed so; a socket that listens already changes over.

    A connection that is accepted already keeps what it has.
    """
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, bool(tcp_keepidle))
        if tcp_keepidle:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, tcp_keepidle)
    sock.listen(backlog)


def resolve(address: Address) -> list[Address]:
    """Return the addresses with numbers that one with a host name stands for, in the resolver's order; others as they are.

    Raises:
        BindError: the name does not resolve.
    """
    if address.kind != "tcp":
        return [address]
    found = [dataclasses.replace(address, host=target[0]) for _, _, _, _, target in _lookup(address)]
    return list(dict.fromkeys(found))


def _lookup(address: Address) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    try:
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError) as error:
        raise BindError(f"cannot listen on {address}: {address.host!r} is no address ({error})") from error
    return found  # type: ignore[return-value]  # of AF_INET and AF_INET6 only: targets begin with host and port


def _explain(error: OSError) -> str:
    text = error.strerror or str(error)
    if error.errno == errno.EACCES:
        return f"{text} (ports below net.ipv4.ip_unprivileged_port_start need root or CAP_NET_BIND_SERVICE)"
    return text


def spell(sock: socket.socket) -> str:
    """Return where a socket really listens, in the spelling of the option `bind` (port 0 is resolved)."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        return f"unix:{text}"
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{host}:{port}"
