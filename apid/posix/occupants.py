"""Who listens at an address, as /proc tells it, without a connection that the listener would see. Linux."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"
"""The state of a listening socket, as proc(5) writes it."""

_ACCEPTCON = 1 << 16
"""The flag of a listening socket in /proc/net/unix (linux/net.h)."""


def visible() -> bool:
    """Return whether this process may look: a service that sees only the processes in proc(5) may not (systemd.exec(5))."""
    return os.access("/proc/net/unix", os.R_OK)


def of_tcp(host: str, port: int, *, overlapping: bool = False) -> set[int]:
    """Return the inodes of the sockets that listen on `host` (a numeric address) and `port`.

    `overlapping`: also those on the wildcard address, and on any address if `host` is the wildcard.
    """
    wanted = ipaddress.ip_address(host)
    found = set()
    for address, at, inode in _tcp("tcp6" if wanted.version == 6 else "tcp"):
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
    names = {f"socket:[{inode}]" for inode in inodes}
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _holds(entry, names)}


def held(pid: int) -> set[int]:
    """Return the inodes of the sockets that a process holds; empty when it is gone, or another user's."""
    try:
        links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return set()
    return {int(link[8:-1]) for link in links if link.startswith("socket:[")}


def command(pid: int) -> str:
    """Return how a process calls itself, in one line; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()[:100]
    except OSError:
        return ""


def _tcp(table: str) -> Iterator[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int, int]]:
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


def _holds(process: Path, names: set[str]) -> bool:
    try:
        return any(str(fd.readlink()) in names for fd in (process / "fd").iterdir())
    except OSError:  # it is gone, or another user's
        return False
