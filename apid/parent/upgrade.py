"""The handing over at an upgrade: the state as a versioned JSON document in a memfd, descriptors by number, counters as they lie.

The old image writes and execs (`become`); the new one reads (`restore`) and goes on with the same pid, sockets and workers.
Pending signals, zombies and clients that wait for the verdict all survive an exec; only memory does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
from collections.abc import Mapping
from typing import Annotated, Any

from apid import bounds
from apid.errors import ApidError
from apid.loggers import logger
from apid.parent import handover, program
from apid.parent.control import Control
from apid.parent.effects import Effects
from apid.parent.listeners import Bound, Listeners, Places
from apid.parent.plan import Plan
from apid.parent.state import State
from apid.posix import memfd, processes, socketfile
from apid.posix.lockfile import LockFile
from apid.posix.pidfile import PidFile
from apid.posix.socketfile import SocketFile
from apid.scoreboard import ROWS, Scoreboard

LOG = logger("apid.parent")


def become(state: State, effects: Effects) -> str:
    """Exec the installed program, with all signals blocked; what is pending waits for the new image.

    Returns only when that was impossible, with the reason; nothing has changed then.
    """
    if strangers := _strangers(state, effects.channels, effects.rows):
        return f"no children of this process: {strangers[:10]}"  # the new image would refuse the whole state
    control, pid_file = effects.holdings.control, effects.holdings.pid_file
    clients = control.clients() if control else []
    document: dict[str, Any] = {
        "version": program.STATE_VERSION,
        "pid": os.getpid(),
        "state": handover.pack(state),
        "listeners": {key: [one.sock.fileno(), _packed(one.file)] for key, one in effects.listeners.items()},
        "resolved": effects.listeners.resolved,
        "channels": {str(pid): sock.fileno() for pid, sock in effects.channels.items()},
        "stacks": {str(pid): fd for pid, fd in effects.stacks.items().items()},
        "rows": {str(pid): row for pid, row in effects.rows.items()},
        "places": {str(generation): places for generation, places in effects.places.items()},
        "board": effects.board.fds,
        "control": None
        if control is None or control.server is None
        else [control.server.fileno(), _packed(control.file)],
        "clients": {
            str(client.number): [client.sock.fileno(), client.pending, _text(client.received), _text(client.unsent)]
            for client in clients
        },
        "pid_file": [pid_file.fd, pid_file.path] if pid_file else None,
    }
    keep = [*effects.board.fds, *document["channels"].values(), *document["stacks"].values()]
    keep += [fileno for kind in ("listeners", "clients") for fileno, *_ in document[kind].values()]
    keep += [document[kind][0] for kind in ("control", "pid_file") if document[kind]]
    files = [*(one.file for _, one in effects.listeners.items()), control and control.file]
    keep += [file.lock.fd for file in files if file and file.lock]
    with os.fdopen(memfd.of(json.dumps(document).encode(), "apid-state"), "rb") as file:
        effects.notifier.restore(os.environ)
        try:
            error = program.become(effects.argv, file.fileno(), keep, effects.directory)
        finally:
            for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
                os.environ.pop(name, None)
    return f"{effects.argv[0]}: {getattr(error, 'strerror', None) or error}"


Fd = Annotated[int, bounds.whole(0, 2**31 - 1)]
_File = tuple[str, tuple[int, int] | None, Fd | None]
"""A socket's file: its path, device and inode, and the descriptor of its lock."""

_DOCUMENT = bounds.record(
    {
        "version": bounds.of(int),
        "pid": bounds.of(int),
        "state": lambda value: value,  # handover's
        "listeners": bounds.of(dict[str, tuple[Fd, _File | None]]),
        "resolved": bounds.of(dict[str, list[str]]),
        "channels": bounds.of(dict[int, Fd]),
        "stacks": bounds.of(dict[int, Fd]),
        "rows": bounds.of(dict[int, Annotated[int, bounds.whole(0, ROWS - 1)]]),
        "places": bounds.of(dict[int, Places]),
        "board": bounds.of(tuple[Fd, Fd]),
        "control": bounds.of(tuple[Fd, _File] | None),
        "clients": bounds.of(dict[int, tuple[Fd, int, str, str]]),
        "pid_file": bounds.of(tuple[Fd, str] | None),
    }
)
"""The document of `become`, as it is read back."""


@dataclasses.dataclass(slots=True)
class Inheritance:
    """What the former image left: the document and the state, not yet turned into objects."""

    document: dict[str, Any]
    state: State

    def plan(self) -> Plan:
        """The plan, as it was."""
        return Plan(self.state)

    def listeners(self, *, kept: bool) -> Listeners:
        """The listening sockets; `kept`: as of `Listeners`."""
        listeners = Listeners(kept=kept)
        listeners.resolved = self.document["resolved"]
        for key, (fd, file) in self.document["listeners"].items():
            try:
                listeners.adopt(key, Bound(_socket(fd), _unpacked(*file) if file else None))
            except Exception:  # the next generation binds it again
                LOG.exception("the listening socket %s could not be taken over", key)
        return listeners

    def places(self) -> dict[int, Places]:
        """Where each generation listens."""
        places: dict[int, Places] = self.document["places"]
        return places

    def board(self) -> Scoreboard | None:
        """The counters; None when this program lays them out differently, or they cannot be mapped."""
        fds, board = self.document["board"], None
        try:
            for fd in fds:
                os.set_inheritable(fd, False)
            board = Scoreboard.attach(*fds)
        except Exception:
            LOG.exception("the scoreboard could not be taken over: the counters restart at zero")
        if board is None:
            with contextlib.suppress(OSError):
                Scoreboard.abandon(fds[1])
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)
        return board

    def give(self, effects: Effects) -> None:
        """Hand everything else to the effects of this image; what cannot be taken over is logged, and the rest is."""
        effects.places |= self.places()
        effects.rows |= self.document["rows"]
        caught = effects.faults.caught
        for pid, fd in self.document["channels"].items():
            with caught(f"taking over the channel of process {pid}"):
                sock = _socket(fd)
                sock.setblocking(False)
                effects.channels[pid] = sock
        for pid, fd in self.document["stacks"].items():
            with caught(f"taking over the stacks of process {pid}"):
                os.set_inheritable(fd, False)
                effects.stacks.add(pid, fd)
        for pid in self.document["channels"].keys() - effects.channels.keys():
            with caught(f"the dismissal of process {pid}"):
                processes.kill(pid, signal.SIGTERM)  # it hears nothing else any more; another one takes its seat
        with caught("taking over the control socket"):
            self._give_control(effects)
        if self.document["pid_file"]:
            with caught("taking over the pid file"):  # the next generation writes it again
                fd, path = self.document["pid_file"]
                os.set_inheritable(fd, False)
                effects.holdings.pid_file = PidFile(path, fd)

    def _give_control(self, effects: Effects) -> None:
        listening, clients = self.document["control"], self.document["clients"]
        if listening:
            fd, packed = listening
            control = Control(packed[0], (_socket(fd), _unpacked(*packed)))
        elif clients:
            control = Control("")  # it listens no more, but owes them answers
        else:
            return
        effects.holdings.control = control
        for number, (client_fd, pending, received, unsent) in clients.items():
            with effects.faults.caught("taking over a client of the control socket"):
                client = control.adopt(number, _socket(client_fd))
                client.pending, client.received, client.unsent = pending, _bytes(received), _bytes(unsent)


def restore(environ: dict[str, str] | os._Environ[str]) -> Inheritance | None:
    """Read what a former image of this process left; None when this is a start and no upgrade.

    Raises:
        ApidError: it cannot be read, or is not for this process and program.
    """
    text = environ.pop(program.STATE_FD, "")
    if not text.isdecimal():
        return None
    try:
        document = _read(int(text))
        state = handover.unpack(document["state"])
        if strangers := _strangers(state, document["channels"], document["rows"]):
            raise ValueError(f"no children of this process: {strangers[:10]}")  # noqa: TRY301 - one text for all that is wrong
        return Inheritance(document, state)
    except (OSError, ValueError, OverflowError) as error:
        text = f"{program.STATE_FD}={text[:20]}: the state of the program before cannot be taken over: {error}"
        raise ApidError(text) from error


def _strangers(state: State, *of_children: Mapping[int, object]) -> list[int]:
    pids = {child.pid for child in state.children}.union(state.molds, *of_children)
    return sorted(pid for pid in pids if not processes.is_child(pid))


def _read(fd: int) -> dict[str, Any]:
    if not memfd.is_sealed(fd, memfd.EVERYTHING):
        raise ValueError("the descriptor is no sealed memory")
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        document = bounds.loads(file.read())
    if not isinstance(document, dict) or [document.get("version"), document.get("pid")] != [
        program.STATE_VERSION,
        os.getpid(),
    ]:
        raise ValueError("it is not for this process and program")
    checked: dict[str, Any] = _DOCUMENT(document)
    return checked


def asked_version(environ: Mapping[str, str]) -> str | None:
    """In a preflight: why this program cannot take over from the one that asks; None when it can, or nobody asked."""
    text = environ.get(program.ASKED_VERSION)
    if text is None or text == str(program.STATE_VERSION):
        return None
    return f"this program reads state version {program.STATE_VERSION}, the running one writes {text}: restart instead"


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def _packed(file: SocketFile | None) -> list[Any] | None:
    return [file.path, file.file, file.lock and file.lock.fd] if file else None


def _unpacked(path: str, file: tuple[int, int] | None, fd: int | None) -> SocketFile:
    lock = None
    try:
        if fd is not None:
            os.set_inheritable(fd, False)
            lock = LockFile.take(path + socketfile.SUFFIX, fd)
    except Exception:  # it is locked as long as this process lives
        LOG.exception("the lock file of %s could not be taken over", path)
    return SocketFile(path, file, lock)


def _socket(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        return socket.socket(fileno=fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)  # its peer shall see the end
        raise
