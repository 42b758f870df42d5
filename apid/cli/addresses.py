"""Whether a configuration could listen where it says, for --check-config; a running daemon notices nothing of it.

An address that the daemon of this configuration holds already is what a check before a reload meets. That daemon is known by the
control socket and the pid file, and in the preflight of an upgrade it is the one that asks.
"""

from __future__ import annotations

import dataclasses
import errno
import os

from apid.conf import listener as options
from apid.conf.settings import Address, Listener, Settings
from apid.errors import BindError
from apid.posix import lockfile, occupants, socketfile, sockets


@dataclasses.dataclass(slots=True)
class Findings:
    """What is wrong, one line each with option and place; and what may be wrong."""

    errors: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def examine(settings: Settings, asker: int | None) -> Findings:
    """Try each address; nothing listens meanwhile.

    Args:
        settings: as loaded.
        asker: pid of the daemon that wants to become this program; None outside of a preflight.
    """
    found = Findings()
    daemon = _Daemon.of(settings, asker)
    unix = occupants.unix()
    for one in settings.listeners:
        for address in one.addresses:
            try:
                endpoints = sockets.resolve(address)
                for endpoint in endpoints:
                    there = _listening(endpoint, unix)
                    others = there - daemon.sockets
                    if others or not (there or daemon.has_locked(endpoint)):
                        _examine(endpoint, others, daemon, found, _place(settings, one), spare=len(endpoints) > 1)
            except BindError as error:
                found.errors.append(f"{_place(settings, one)}: {error}")
    for name, path, look in [
        ("control_socket", settings.daemon.control_socket, socketfile.obstacle),
        ("pid_file", settings.daemon.pid_file, lockfile.obstacle),
    ]:
        obstacle = look(path) if path else None
        if (
            obstacle is not None and obstacle.errno != errno.EADDRINUSE
        ):  # the process that listens there is assumed to be the daemon
            found.errors.append(f"{_origin(settings, name)}: [DEFAULT] {name}: {path}: {obstacle.strerror}")
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class _Daemon:
    """The running daemon of a configuration, as far as it can be known.

    Attributes:
        pids: of its parent; 0 in another pid namespace.
        sockets: the inodes of those that its parent holds.
        lives: there is one, though this user may not look at it.
        named: the configuration says how to find it.
    """

    pids: frozenset[int]
    sockets: frozenset[int]
    lives: bool
    named: bool

    def has_locked(self, endpoint: Address) -> bool:
        """Whether it holds the lock of a UNIX socket, for where /proc does not show which process listens."""
        if endpoint.kind != "unix":
            return False
        return lockfile.holder(endpoint.path + socketfile.SUFFIX) in self.pids

    @classmethod
    def of(cls, settings: Settings, asker: int | None) -> _Daemon:
        control, pid_file = settings.daemon.control_socket, settings.daemon.pid_file
        listening = occupants.of_unix(control) if control else set[int]()
        locks = [pid_file, control and control + socketfile.SUFFIX]
        holders = [lockfile.holder(path) for path in locks if path]
        known = frozenset(pid for pid in (asker, *holders, *occupants.processes(listening)) if pid is not None)
        held = frozenset(inode for pid in known if pid for inode in occupants.held(pid))
        return cls(known, held, bool(listening or known), bool(control or pid_file))


def _listening(endpoint: Address, unix: dict[bytes, set[int]]) -> set[int]:
    """The inodes of the sockets that listen there; empty for a descriptor, which is handed over at the start only."""
    if endpoint.kind == "unix":
        return unix.get(os.fsencode(endpoint.path), set())
    return occupants.of_tcp(endpoint.host, endpoint.port) if endpoint.kind == "tcp" and endpoint.port else set()


def _examine(endpoint: Address, others: set[int], daemon: _Daemon, found: Findings, place: str, *, spare: bool) -> None:
    """Try one, at which `others` listen; `spare`: the name that it comes from has further addresses."""
    if endpoint.kind == "fd":
        return
    try:
        sockets.probe(endpoint)
    except BindError as error:
        reason = getattr(error.__cause__, "errno", None)
        if reason != errno.EADDRINUSE:
            skipped = spare and ":" in endpoint.host and reason in sockets.NO_IPV6
            (found.notes if skipped else found.errors).append(f"{place}: {error}")
            return
        inodes = others
        if endpoint.kind == "tcp":
            inodes = occupants.of_tcp(endpoint.host, endpoint.port, overlapping=True)
        text, only_a_note = _blame(occupants.processes(inodes), daemon)
        unknown = others or not occupants.visible()
        (found.notes if only_a_note and unknown else found.errors).append(f"{place}: {error}{text}")


def _blame(pids: set[int], daemon: _Daemon) -> tuple[str, bool]:
    """What to say of those who hold an address; and whether they may be the daemon that this configuration is for."""
    names = sorted((not occupants.command(pid).startswith("apid: "), pid) for pid in pids)
    if not names:
        return ", presumably by the running daemon" if daemon.lives else "", daemon.lives
    foreign, pid = names[0]
    text = f", by process {pid} ({occupants.command(pid)})"
    if foreign or daemon.named:
        return text, False
    return f"{text}; without control_socket and pid_file it is not known whether it is the daemon of this file", True


def _place(settings: Settings, one: Listener) -> str:
    if one.name != "main":
        group = options.PREFIX + one.name
        return f"{_origin(settings, f'{group}.bind')}: [{group}] bind"
    given = [name for name in ("bind", "bind_port", "bind_host") if _origin(settings, name) != "default"]
    name = given[0] if given else "bind_port"
    return f"{_origin(settings, name)}: [DEFAULT] {name}"


def _origin(settings: Settings, name: str) -> str:
    return next((origin for option, _, origin in settings.sources if option == name), "default")
