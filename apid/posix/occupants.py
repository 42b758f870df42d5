"""Who listens at an address, as /proc tells it, without a connection that the listener would see. Linux."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"
"""The state of a listening socket, as proc(5) writes it."""

_ACCEPTCON = 1 << 16
"""The flag of a listening socket in /proc/net/unix (linux/net.h)."""

_Entry = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int, int]
"""Of a listening socket: address, port, inode."""


def visible() -> bool:
    """Return whether this process may look: a service that sees only the processes in proc(5) may not (systemd.exec(5))."""
    return os.access("/proc/net/unix", os.R_OK)


def of_tcp(host: str, port: int, *, overlapping: bool = False) -> set[int]:
    """Return the inodes of the sockets that listen on `host` (a numeric address) and `port`.

    `overlapping`: also those on the wildcard address, and on any address if `host` is the wildcard; for an IPv4 address those
    of both families too. (Whether one on `::` is of both families (IPV6_V6ONLY, ipv6(7)) /proc does not say: it counts.)
    """
    wanted = ipaddress.ip_address(host)
    entries = _tcp("tcp6" if wanted.version == 6 else "tcp")
    if overlapping and wanted.version == 4:
        entries = itertools.chain(entries, _both_families())
    found = set()
    for address, at, inode in entries:
        same = address == wanted or (overlapping and (address.is_unspecified or wanted.is_unspecified))
        if at == port and same:
            found.add(inode)
    return found


def of_unix(path: str) -> set[int]:
    """Return the inodes of the sockets that were bound to `path` and listen; its file may be gone."""
    return unix().get(os.fsencode(path), set())


def unix() -> dict[bytes, set[int]]:
    """Return `of_unix` for each path, with one look."""
    found: dict[bytes, set[int]] = {}
    if not visible():
        return found
    for line in Path("/proc/net/unix").read_bytes().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and int(fields[3], 16) & _ACCEPTCON:
            found.setdefault(fields[7], set()).add(int(fields[6]))
    return found


def processes(inodes: set[int]) -> set[int]:
    """Return the pids of the processes that hold one of these sockets, as far as this user may look."""
    if not inodes:
        return set()
    pids = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return {pid for pid in pids if not inodes.isdisjoint(held(pid))}


def held(pid: int) -> set[int]:
    """Return the inodes of the sockets that a process holds; empty when it is gone, or another user's."""
    links: list[str] = []
    with contextlib.suppress(OSError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                links.append(str(fd.readlink()))
    return {int(link[8:-1]) for link in links if link.startswith("socket:[")}


def command(pid: int) -> str:
    """Return how a process calls itself, in one line; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()[:100]
    except OSError:
        return ""


def _tcp(table: str) -> Iterator[_Entry]:
    try:
        lines = Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
    except FileNotFoundError:  # no IPv6
        return
    for line in lines:
        fields = line.split()
        if fields[3] != _LISTEN:
            continue
        host, port = fields[1].split(":")
        words = bytes.fromhex(host)  # 32-bit words in the byte order of the machine
        packed = b"".join(
            int.from_bytes(words[at : at + 4]).to_bytes(4, sys.byteorder) for at in range(0, len(words), 4)
        )
        yield ipaddress.ip_address(packed), int(port, 16), int(fields[9])


def _both_families() -> Iterator[_Entry]:
    """The entries of sockets of IPv6 that IPv4 clients may reach: mapped addresses (RFC 4291 2.5.5.2) as the IPv4 addresses."""
    for address, port, inode in _tcp("tcp6"):
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None or address.is_unspecified:
            yield mapped or address, port, inode
