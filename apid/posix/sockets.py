"""Listening sockets: bind, adopt, and name them. TCP over IPv4 and IPv6, UNIX, and descriptors from someone else."""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - getaddrinfo encodes names with it, and the parent imports nothing once it serves
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

from apid.errors import BindError

if TYPE_CHECKING:  # the wrappers load nothing but the standard library
    from apid.conf.settings import Address


def bind(
    address: Address,
    *,
    backlog: int,
    tcp_keepidle: int,
    inherited: dict[str, socket.socket],
    umask: int | None = None,
) -> socket.socket:
    """Return a socket that listens on `address`, non-blocking and close-on-exec.

    Options that accepted sockets inherit on Linux are set here once: TCP_NODELAY (an answer in two writes must not wait for
    an acknowledgement, RFC 896), SO_KEEPALIVE and TCP_KEEPIDLE.

    Raises:
        BindError: with the address and the cause.
    """
    if address.kind == "fd":
        return _adopt(address, inherited)
    if address.kind == "unix":
        return _bind_unix(address, backlog, umask)
    return _bind_tcp(address, backlog, tcp_keepidle)


def _adopt(address: Address, inherited: dict[str, socket.socket]) -> socket.socket:
    sock = inherited.get(address.name)
    if sock is None:
        known = ", ".join(sorted(inherited)) or "none"
        raise BindError(f"cannot listen on {address}: no such descriptor was handed over (LISTEN_FDNAMES: {known})")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise BindError(f"cannot listen on {address}: the descriptor handed over is not a listening socket")
    del inherited[address.name]  # it is a listener's from here on, and no leftover
    sock.setblocking(False)
    return sock


def _bind_tcp(address: Address, backlog: int, tcp_keepidle: int) -> socket.socket:
    try:
        infos = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError) as error:
        raise BindError(f"cannot listen on {address}: {address.host!r} is no address ({error})") from error
    family, kind, proto, _, target = infos[0]
    try:
        sock = socket.socket(family, kind, proto)
    except OSError as error:
        raise BindError(f"cannot listen on {address}: {_explain(error)}") from error
    try:
        # Restarting must not wait for TIME_WAIT; two daemons on one port still exclude each other (no SO_REUSEPORT).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tcp_keepidle:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, tcp_keepidle)
        sock.bind(target)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException as error:
        sock.close()
        if not isinstance(error, OSError):
            raise
        raise BindError(f"cannot listen on {address}: {_explain(error)}") from error
    return sock


def _bind_unix(address: Address, backlog: int, umask: int | None) -> socket.socket:
    before = os.umask(umask) if umask is not None else None  # unix(7): who may write to the file may connect
    try:
        return listening_at(address.path, backlog)
    except OSError as error:
        raise BindError(f"cannot listen on {address}: {_explain(error)}") from error
    finally:
        if before is not None:
            os.umask(before)


def listening_at(path: str, backlog: int) -> socket.socket:
    """Return a non-blocking UNIX socket that listens at `path`; a stale file there is replaced.

    Raises:
        OSError: neither socket nor file is left.
    """
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        remove_stale(path)
        sock.bind(path)
        undo.callback(os.unlink, path)
        sock.listen(backlog)
        sock.setblocking(False)
        undo.pop_all()
    return sock


def remove_stale(path: str) -> None:
    """Unlink a socket file that nobody listens on any more (left by a kill -9); leave a live one and other files alone.

    Raises:
        OSError: EADDRINUSE when someone listens there, EEXIST when the path is something else than a socket.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "the path exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        except (TimeoutError, BlockingIOError):
            pass  # its queue is full: it lives
    raise OSError(errno.EADDRINUSE, "another process listens there")


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
