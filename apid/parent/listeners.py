"""The listening sockets of the daemon: bound once, kept over all generations, closed only when no configuration wants them.

Each socket has a key, which says when two configurations mean the same one:

    127.0.0.1:8080, [::1]:8080    an address with numbers; a host name stands for all that it resolves to
    main/127.0.0.1:0              port 0: another one for each listener, and `main/127.0.0.1:0 2` for each repetition in it
    unix:/run/api.sock            while its file is there; `unix:/run/api.sock 2` is what was bound again after its file had gone
    fd:web                        handed over by the service manager

A socket whose file has gone gets no new connection, but some may wait in it: it stays until they are served.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import socket
from collections.abc import Iterable

from apid.conf.settings import Address, Daemon, Listener, Settings
from apid.errors import BindError
from apid.loggers import logger
from apid.posix import accept_queue, sockets
from apid.posix.socketfile import SocketFile

LOG = logger(__name__)

Places = dict[str, dict[str, str]]
"""Of a generation, by listener name: the key of each socket, and where it really listens in the spelling of the option bind."""


def keys_of(places: Places) -> set[str]:
    """Return the keys of all sockets of a generation."""
    return {key for keys in places.values() for key in keys}


def serving(settings: Settings, places: Places) -> Settings:
    """Return the settings with the listeners that are in `places` only: what can be served at this moment."""
    bound = [one for one in settings.listeners if one.name in places]
    return dataclasses.replace(settings, listeners=tuple(bound))


@dataclasses.dataclass(slots=True)
class Bound:
    """One socket; `file` of a UNIX socket that was bound here."""

    sock: socket.socket
    file: SocketFile | None = None

    @property
    def reachable(self) -> bool:
        """Whether a client that looks for it finds it: its file is neither removed nor replaced."""
        return self.file is None or self.file.reachable

    def name(self, key: str) -> str:
        """The name for FDNAME=; what was bound again goes by the name of the first one, which a start looks for."""
        return stored_name(f"unix:{self.file.path}" if self.file else key)

    def end(self, *, keep: bool) -> None:
        """Close it, and remove its files; `keep`: not the one that clients connect to."""
        with self.sock:
            if self.file is not None:
                self.file.remove(keep=keep)

    @property
    def waiting(self) -> bool:
        """Whether connections wait in its queue."""
        return bool(accept_queue.waiting(self.sock))


class Listeners:
    """All of them, by key.

    Args:
        inherited: sockets handed over by the service manager, by name.
        kept: the service manager keeps ours while we are away (FDSTORE): the files of UNIX sockets stay, for the same reason.
    """

    def __init__(self, inherited: dict[str, socket.socket] | None = None, *, kept: bool = False) -> None:
        self._bound: dict[str, Bound] = {}
        self._inherited = inherited or {}
        self._kept = kept
        self.resolved: dict[str, list[str]] = {}
        """By host name what it last resolved to: a name server that is away does not fail a reload that changes no address."""

    # ---- binding ----

    def bind(self, settings: Settings) -> tuple[Places, list[str]]:
        """Bind what `settings` wants and is not there yet; returns where all is, and the keys that are new.

        Raises:
            BindError: nothing of what this call had bound is left open.
        """
        before = set(self._bound)
        places: Places = {}
        try:
            for listener in settings.listeners:
                mine = places[listener.name] = {}
                for address in listener.addresses:
                    for key in self._bind(listener, address, places, settings.daemon):
                        mine[key] = sockets.spell(self._bound[key].sock)
        except BaseException:
            self.close(set(self._bound) - before)
            raise
        new = [key for key in self._bound if key not in before]
        for name, keys in places.items():
            for key in keys:
                if key in new:
                    LOG.info("listening on %s (listener %s)", keys[key], name)
        return places, new

    def _bind(self, listener: Listener, address: Address, places: Places, daemon: Daemon) -> list[str]:
        if address.kind == "tcp":
            return self._bind_tcp(listener, address, places, daemon)
        if address.kind == "unix":
            return self._bind_unix(address, daemon)
        key = str(address)
        if key not in self._bound:
            self._bound[key] = Bound(self._open(key, address, daemon))
        return [key]

    def _bind_tcp(self, listener: Listener, address: Address, places: Places, daemon: Daemon) -> list[str]:
        endpoints = self._resolve(address)
        port, keys = address.port, list[str]()
        taken = keys_of(places)
        for at, endpoint in enumerate(endpoints):
            key = str(endpoint)
            if not address.port:
                key = _unused(f"{listener.name}/{endpoint}", taken)
            elif key in taken:
                raise BindError(f"cannot listen on {address}: it stands for {key}, which is given twice")
            if key not in self._bound:
                try:
                    self._bound[key] = Bound(self._open_at(key, endpoint, port, daemon))
                except BindError as error:
                    last = at == len(endpoints) - 1 and not keys
                    if last or ":" not in endpoint.host or _errno(error) not in sockets.NO_IPV6:
                        raise
                    LOG.info("%s: not on %s, which this machine does not have", address, endpoint)
                    continue
            port = port or self._bound[key].sock.getsockname()[1]
            keys.append(key)
        return keys

    def _resolve(self, address: Address) -> list[Address]:
        try:
            endpoints = sockets.resolve(address)
        except BindError as error:
            if address.host not in self.resolved:
                raise
            LOG.warning("%s; it keeps the addresses that it had", error)
            return [dataclasses.replace(address, host=host) for host in self.resolved[address.host]]
        self.resolved[address.host] = [one.host for one in endpoints]
        return endpoints

    def _open_at(self, key: str, endpoint: Address, port: int, daemon: Daemon) -> socket.socket:
        """With port 0: all addresses of a name get the port of the first one, unless another socket has it there."""
        try:
            return self._open(key, dataclasses.replace(endpoint, port=port), daemon)
        except BindError as error:
            if endpoint.port == port or _errno(error) != errno.EADDRINUSE:
                raise
            return self._open(key, endpoint, daemon)

    def _bind_unix(self, address: Address, daemon: Daemon) -> list[str]:
        mine = [key for key, bound in self._bound.items() if bound.file and bound.file.path == address.path]
        if not mine:
            kept = self._inherited.pop(stored_name(str(address)), None)
            if kept is not None:
                self._bound[str(address)] = self._stored(address, kept, daemon)
                mine = [str(address)]
        gone = [key for key in mine if not self._bound[key].reachable]
        here = [key for key in mine if key not in gone]
        if not here:
            if gone:
                LOG.warning("%s: its file was removed or replaced; binding it again", address)
            key = _unused(str(address), self._bound)
            self._bound[key] = Bound(*sockets.bind_unix(address, backlog=daemon.backlog, umask=daemon.umask))
            here = [key]
        return here + [key for key in gone if self._bound[key].waiting]

    def _open(self, key: str, address: Address, daemon: Daemon) -> socket.socket:
        kept = self._inherited.pop(stored_name(key), None) if address.kind == "tcp" else None
        if kept is not None:
            return self._stored(address, kept, daemon).sock
        return sockets.bind(
            address,
            backlog=daemon.backlog,
            tcp_keepidle=daemon.tcp_keepidle,
            inherited=self._inherited,
        )

    @staticmethod
    def _stored(address: Address, sock: socket.socket, daemon: Daemon) -> Bound:
        with contextlib.ExitStack() as undo:
            undo.enter_context(sock)
            sock.setblocking(False)
            sockets.tune(sock, backlog=daemon.backlog, tcp_keepidle=daemon.tcp_keepidle)
            file = sockets.claim(address) if address.path else None
            undo.pop_all()
        if file is not None:
            with contextlib.suppress(OSError):  # it was bound with other rights
                file.set_mode(daemon.umask)
        LOG.info("%s: adopted from the service manager's store", address)
        return Bound(sock, file)

    def leftovers(self) -> list[str]:
        """Close what was handed over and no address wants; returns the names. Nobody would ever answer there."""
        names = list(self._inherited)
        for sock in self._inherited.values():
            sock.close()
        self._inherited.clear()
        return names

    # ---- what there is ----

    def of(self, keys: Iterable[str]) -> list[socket.socket]:
        """The sockets with these keys."""
        return [self._bound[key].sock for key in keys if key in self._bound]

    def tune(self, places: Places, daemon: Daemon) -> None:
        """Apply what a configuration says of its sockets to those that were bound for an earlier one.

        What the service manager hands over has the options of its socket unit.

        Raises:
            OSError: the mode of a UNIX socket's file cannot be changed.
        """
        for key in keys_of(places):
            bound = self._bound[key]
            if not key.startswith("fd:"):
                sockets.tune(bound.sock, backlog=daemon.backlog, tcp_keepidle=daemon.tcp_keepidle)
            if bound.file is not None:
                bound.file.set_mode(daemon.umask)

    def items(self) -> list[tuple[str, Bound]]:
        """Keys and sockets, for an upgrade."""
        return list(self._bound.items())

    def stored(self) -> list[tuple[str, socket.socket]]:
        """What the service manager shall keep for the next start, with the names for FDNAME=."""
        # What a socket unit hands over it hands over again; stored as well it would come twice.
        kept = [(key, one) for key, one in self._bound.items() if not key.startswith("fd:") and one.reachable]
        return [(one.name(key), one.sock) for key, one in kept]

    def adopt(self, key: str, bound: Bound) -> None:
        """Take over a socket from the program that this process was before an upgrade."""
        self._bound[key] = bound

    def keep(self, wanted: Iterable[str]) -> dict[str, str]:
        """Close all but these keys; returns the keys that went, with the names that the store may have them under."""
        kept = set(wanted)
        gone = {key: self._bound[key].name(key) for key in self._bound if key not in kept}
        self.close(gone)
        return gone

    def close(self, keys: Iterable[str] | None = None) -> None:
        """Close sockets (all by default); the files of a UNIX socket go with it, if they are still its own."""
        with contextlib.ExitStack() as each:  # one that cannot be closed keeps no other one open
            for key in list(self._bound) if keys is None else list(keys):
                bound = self._bound.pop(key, None)
                if bound is not None:
                    each.callback(bound.end, keep=self._kept and keys is None)

    def waiting(self) -> int:
        """How many connections wait for an accept, in all queues; of UNIX sockets one each at most."""
        return sum(accept_queue.waiting(bound.sock) for bound in self._bound.values())

    def statistics(self) -> dict[str, str]:
        """Where each one really listens."""
        return {key: sockets.spell(bound.sock) for key, bound in self._bound.items()}


def _unused(key: str, taken: Iterable[str]) -> str:
    """The key itself, or with the next number when it is taken."""
    names, number, name = set(taken), 1, key
    while name in names:
        number += 1
        name = f"{key} {number}"
    return name


def _errno(error: BindError) -> int | None:
    return getattr(error.__cause__, "errno", None)


def stored_name(key: str) -> str:
    """Return a key as a name for FDNAME=, which takes no colon and no control character and 255 bytes at most."""
    return "apid-" + "".join(c if c.isalnum() or c in ".-_/" else "_" for c in key)[:200]
