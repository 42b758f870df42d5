"""systemd's two protocols, without its library: sd_notify(3) and sd_listen_fds(3).

Some 60 lines instead of a dependency: both protocols are documented as stable and as safe to implement by hand.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import time
from collections.abc import Sequence

LISTEN_FDS_START = 3

AWAITED = ("READY=1", "RELOADING=1", "STOPPING=1", "FDSTORE=1")
PATIENCE = 0.5
"""Seconds that a message in AWAITED may wait for room in the manager's queue."""


class Notifier:
    """Sends state to the service manager; does nothing where there is none (NOTIFY_SOCKET unset).

    The variable is taken out of the environment, so that workers and what they start cannot notify in the daemon's name.
    """

    def __init__(self, environ: dict[str, str] | os._Environ[str]) -> None:
        self.address = environ.pop("NOTIFY_SOCKET", "")
        usec = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        self.watchdog = _number(usec) / 1e6 if pid in ("", str(os.getpid())) else 0.0
        """Seconds within which WATCHDOG=1 is expected; 0: no watchdog."""

    def send(self, *lines: str, fds: Sequence[int] = ()) -> bool:
        """Send `KEY=value` lines, with descriptors for FDSTORE=1; False when they were not taken. Never raises."""
        if not self.address:
            return False
        target = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            # The manager's queue may be full for a moment (10 datagrams where net.unix.max_dgram_qlen was not raised). What a
            # `systemctl` waits for is worth a short wait; what comes again by itself is not.
            sock.settimeout(PATIENCE if lines[0] in AWAITED else 0)
            sock.connect(target)
            sock.sendmsg(["\n".join(lines).encode()], ancillary)
            return True
        return False

    def restore(self, environ: dict[str, str] | os._Environ[str]) -> None:
        """Put the variables back for a program that this process is about to become by exec."""
        if self.address:
            environ["NOTIFY_SOCKET"] = self.address
        if self.watchdog:
            environ["WATCHDOG_USEC"] = str(int(self.watchdog * 1e6))
            environ["WATCHDOG_PID"] = str(os.getpid())


def monotonic_usec() -> str:
    """The MONOTONIC_USEC= line that must accompany RELOADING=1."""
    return f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def inherited_sockets(environ: dict[str, str] | os._Environ[str]) -> dict[str, socket.socket]:
    """Take over the sockets that the service manager opened, by name; also those it kept for us (FDSTORE).

    LISTEN_PID is compared, so that a child of an activated process does not mistake its parent's descriptors for its own. An
    unnamed descriptor is called by its place: `0`, `1`, ... Descriptors that are no sockets are closed, the variables removed.
    The first number that is no open descriptor ends the list.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    environ.pop("LISTEN_PIDFDID", None)
    if pid != str(os.getpid()):
        return {}
    found: dict[str, socket.socket] = {}
    for place in range(_number(count)):
        fd = LISTEN_FDS_START + place
        name = names[place] if place < len(names) and names[place] not in ("", "unknown") else str(place)
        try:
            os.set_inheritable(fd, False)
        except (OSError, OverflowError):
            break
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.close(fd)
            continue
        if name in found:
            name = f"{name}.{place}"
        found[name] = sock
    return found


def _number(text: str) -> int:
    """A number of the environment; 0 for what is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
