"""What a process has opened while it loaded an application that its forks could not share, found by looking at it.

A fork copies the memory and shares the descriptors. So a native thread is not there in the copy; two processes that read from one
connection get each other's answers; a green thread, a timer or a lock of the kernel stays with one of them. docs/FORK_SAFETY.md
says what follows from each, and how to mend it. What only looks dangerous is not reported: sockets without a peer, datagrams,
pipes, files.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
from _socket import socket as _socket  # what eventlet does not replace
from collections.abc import Collection, Iterator
from pathlib import Path

from apid.loggers import logger
from apid.posix import native
from apid.server.engines import base
from apid.worker.places import Places, place

LOG = logger("apid.worker")

_KINDS = {"eventpoll": "an epoll descriptor, for example of an asyncio loop", "inotify": "an inotify descriptor"}
_KINDS |= {"timerfd": "a timer descriptor", "signalfd": "a signal descriptor", "io_uring": "an io_uring descriptor"}
_KINDS |= {"fanotify": "a fanotify descriptor", "userfaultfd": "a userfaultfd descriptor"}

FDS = Path("/proc/self/fd")

_SQLITE = b"SQLite format 3\0"
_CLOSED, _LISTENS = 7, 10
"""States of a TCP socket, in its TCP_INFO (tcp(7))."""
_TIMERS = {
    "ITIMER_REAL": signal.ITIMER_REAL,
    "ITIMER_VIRTUAL": signal.ITIMER_VIRTUAL,
    "ITIMER_PROF": signal.ITIMER_PROF,
}


def findings(engine: base.Engine, ours: Collection[int], places: Places) -> list[str]:
    """Return a text for each thing; empty where workers can be forked from this process. Pools are emptied first.

    Args:
        engine: this process's.
        ours: descriptors that are not the application's.
        places: where it did what.
    """
    try:
        gc.unfreeze()  # what the application has frozen would not be found
        _empty_pools()
        return [
            *_threads(places),
            *engine.undone(),
            *_descriptors(ours, places),
            *_processes(places),
            *_timers(),
            *_locks(),
        ]
    except Exception as error:  # noqa: BLE001 - what cannot be looked at is not known to be safe
        return [f"what has been opened cannot be found: {type(error).__name__}: {error}"]


def _empty_pools() -> None:
    """Close the connections that pools of SQLAlchemy keep: each worker opens its own. A database in memory is its connection."""
    engine_type = getattr(sys.modules.get("sqlalchemy.engine"), "Engine", None)
    if engine_type is None:
        return
    for found in [one for one in gc.get_objects() if issubclass(type(one), engine_type)]:
        with contextlib.suppress(Exception):
            url = found.url
            memory = found.dialect.name == "sqlite" and (
                url.database in (None, "", ":memory:") or "mode=memory" in str(url)
            )
            if not memory:
                found.dispose()


def _threads(places: Places) -> Iterator[str]:
    known = {getattr(one, "native_id", None): one for one in list(vars(threading)["_active"].values())}
    frames = sys._current_frames()  # noqa: SLF001 - its only name
    frames.pop(native.get_ident(), None)
    for task in sorted(Path("/proc/self/task").iterdir()):
        if int(task.name) == os.getpid():
            continue
        thread = known.get(int(task.name))
        name = f'"{thread.name}"' if thread is not None else f"{_text(task / 'comm')!r}"
        started = places.threads.get(id(thread), "")
        runs = (
            place(frames.get(thread.ident))
            if thread is not None
            else next(filter(None, map(place, frames.values())), "")
        )
        yield f"a native thread, {name}{_at('started', started) or _at('running', runs)}"


def _descriptors(ours: Collection[int], places: Places) -> Iterator[str]:
    for entry in sorted(FDS.iterdir(), key=lambda path: int(path.name)):
        fd = int(entry.name)
        if fd in ours:
            continue
        try:
            name = str(entry.readlink())
        except OSError:  # that of the listing
            continue
        if name.startswith("socket:"):
            if what := _connection(fd):
                yield f"{what} (descriptor {fd}){_at('opened', places.sockets.get(fd, ''))}"
        elif name.startswith("anon_inode:"):
            kind = name.removeprefix("anon_inode:").strip("[]")
            if kind in _KINDS:
                yield f"{_KINDS[kind]} (descriptor {fd})"
        elif name.startswith("/") and _is_sqlite(fd):
            yield f"an open SQLite database, {name} (descriptor {fd})"


def _connection(fd: int) -> str:
    """Return what a socket is connected to, where answers come back by it; an empty text for all others."""
    with contextlib.suppress(OSError):
        sock = _socket(fileno=fd)
        try:
            if sock.family == socket.AF_NETLINK:
                return "a netlink socket"
            if sock.type & ~(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) == socket.SOCK_DGRAM:
                return ""
            try:
                return f"a connection to {_spelled(sock.getpeername())}"
            except OSError:
                if sock.family not in (socket.AF_INET, socket.AF_INET6):
                    return ""
            state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            return "" if state in (_CLOSED, _LISTENS) else "a connection that is being made"
        finally:
            sock.detach()
    return ""


def _spelled(peer: object) -> str:
    if isinstance(peer, tuple):
        return f"{peer[0]}:{peer[1]}"
    name = peer.decode("utf-8", "replace") if isinstance(peer, bytes) else str(peer)
    return name or "another UNIX socket"


def _is_sqlite(fd: int) -> bool:
    with contextlib.suppress(OSError):
        return os.pread(fd, len(_SQLITE), 0) == _SQLITE
    return False


def _processes(places: Places) -> Iterator[str]:
    me = os.getpid()
    children = _text(Path(f"/proc/{me}/task/{me}/children")).split()
    wheres = places.processes if len(places.processes) == len(children) else [""] * len(children)
    for pid, where in zip(children, wheres, strict=True):
        command = _text(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()
        yield f"a child process, {command or pid}{_at('started', where)}"


def _timers() -> Iterator[str]:
    for name, which in _TIMERS.items():
        if any(signal.getitimer(which)):
            yield f"a timer of setitimer ({name})"
    for line in _text(Path("/proc/self/timers")).splitlines():
        if line.startswith("ID:"):
            yield f"a timer of timer_create (number {line.split()[1]})"


def _locks() -> Iterator[str]:
    """Yield the record locks that this process holds (fcntl(2)): a child does not."""
    me = str(os.getpid())
    for line in _text(Path("/proc/locks")).splitlines():
        words = line.split()
        if len(words) >= 6 and words[1] == "POSIX" and words[4] == me:
            yield f"a lock of fcntl on the file {_file(words[5])}"


def _file(identity: str) -> str:
    """Return the path of an open file, by MAJOR:MINOR:INODE."""
    major, minor, inode = identity.split(":")
    wanted = (os.makedev(int(major, 16), int(minor, 16)), int(inode))
    for entry in FDS.iterdir():
        with contextlib.suppress(OSError):
            status = entry.stat()
            if (status.st_dev, status.st_ino) == wanted:
                return str(entry.readlink())
    return f"with inode {inode}"


def _at(done: str, where: str) -> str:
    return f", {done} at {where}" if where else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError:
        return ""
