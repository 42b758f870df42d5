"""The listening sockets of the daemon: bound once, kept over all generations, closed only when no configuration wants them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from apid.conf.settings import Address, Listener, Settings
from apid.posix import sockets

LOG = logging.getLogger(__name__)


def key_of(listener: str, address: Address) -> str:
    """What makes two addresses of two configurations the same socket; port 0 is another one for each listener."""
    if address.kind == "tcp" and address.port == 0:
        return f"{listener}/{address}"
    return str(address)


class Listeners:
    """All of them, by key.

    Args:
        inherited: sockets handed over by the service manager, by name.
        kept: the service manager keeps ours while we are away (FDSTORE): the files of UNIX sockets stay, for the same reason.
    """

    def __init__(self, inherited: dict[str, socket.socket] | None = None, *, kept: bool = False) -> None:
        self._bound: dict[str, socket.socket] = {}
        self._inherited = inherited or {}
        self._kept = kept
        self._pid = os.getpid()

    def bind(self, settings: Settings) -> list[str]:
        """Bind what `settings` wants and is not there yet; returns the keys that are new.

        Raises:
            BindError: nothing of what this call had bound is left open.
        """
        new: list[str] = []
        try:
            for listener in settings.listeners:
                for address in listener.addresses:
                    key = key_of(listener.name, address)
                    if key not in self._bound:
                        self._bound[key] = self._bind(key, address, settings)
                        new.append(key)
            for listener in settings.listeners:
                for address in listener.addresses:
                    key = key_of(listener.name, address)
                    if key in new:
                        LOG.info("listening on %s (listener %s)", sockets.spell(self._bound[key]), listener.name)
        except BaseException:
            self.close(new)
            raise
        return new

    def _bind(self, key: str, address: Address, settings: Settings) -> socket.socket:
        kept = self._inherited.pop(stored_name(key), None)
        if kept is not None and (address.kind != "unix" or Path(address.path).exists()):
            kept.setblocking(False)
            LOG.info("%s: adopted from the service manager's store", address)
            return kept
        return sockets.bind(
            address,
            backlog=settings.daemon.backlog,
            tcp_keepidle=settings.daemon.tcp_keepidle,
            inherited=self._inherited,
            umask=settings.daemon.umask,
        )

    def leftovers(self) -> list[str]:
        """Close what was handed over and no address wants; returns the names. Nobody would ever answer there."""
        names = list(self._inherited)
        for sock in self._inherited.values():
            sock.close()
        self._inherited.clear()
        return names

    def of(self, listener: Listener) -> list[socket.socket]:
        """The sockets of one listener of a configuration that was bound."""
        return [self._bound[key_of(listener.name, address)] for address in listener.addresses]

    def only_bound(self, settings: Settings) -> Settings:
        """Return the settings without the listeners that are not bound yet: what can be served at this moment."""
        bound = [
            one
            for one in settings.listeners
            if all(key_of(one.name, address) in self._bound for address in one.addresses)
        ]
        return dataclasses.replace(settings, listeners=tuple(bound))

    def keys(self) -> list[str]:
        """What is bound."""
        return list(self._bound)

    def items(self) -> list[tuple[str, socket.socket]]:
        """Keys and sockets, for an upgrade and for the service manager's store."""
        return list(self._bound.items())

    def adopt(self, key: str, sock: socket.socket) -> None:
        """Take over a socket from the program that this process was before an upgrade."""
        self._bound[key] = sock

    def keep(self, wanted: Iterable[Settings]) -> list[str]:
        """Close what none of the configurations wants; returns the keys that went."""
        keys = {key_of(one.name, a) for settings in wanted for one in settings.listeners for a in one.addresses}
        gone = [key for key in self._bound if key not in keys]
        self.close(gone)
        return gone

    def close(self, keys: Iterable[str] | None = None) -> None:
        """Close sockets (all by default); the file of a UNIX socket goes with it."""
        with contextlib.ExitStack() as each:  # one that cannot be closed keeps no other one open
            for key in list(self._bound) if keys is None else list(keys):
                sock = self._bound.pop(key, None)
                if sock is None:
                    continue
                each.callback(sock.close)
                ours = key.startswith("unix:") and os.getpid() == self._pid
                if ours and not (self._kept and keys is None):
                    each.callback(_unlink, key.removeprefix("unix:"))

    def statistics(self) -> dict[str, str]:
        """Where each one really listens."""
        return {key: sockets.spell(sock) for key, sock in self._bound.items()}


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def stored_name(key: str) -> str:
    """Return a key as a name for FDNAME=, which takes no colon and no control character and 255 bytes at most."""
    return "apid-" + "".join(c if c.isalnum() or c in ".-_/" else "_" for c in key)[:200]
