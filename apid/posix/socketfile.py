"""The file of a UNIX socket that this process listens on, and the lock file beside it.

A connection shows whether a socket file is stale, and a stale one is removed by its name. Between these two steps another daemon
may have bound its own socket there. Therefore a daemon that binds a path holds PATH.lock from before the first step until it has
removed its socket file (`lockfile`). bind(2) has no variant relative to a descriptor; it does not follow the last component, and
the directories above are those that `directories` has walked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
import stat
from pathlib import Path

from apid.posix import directories, lockfile, occupants, rights
from apid.posix.lockfile import Identity, LockFile

SUFFIX = ".lock"
"""Of the lock file."""


@dataclasses.dataclass(slots=True)
class SocketFile:
    """The file at `path`.

    Attributes:
        file: which one it is (`file_of`); None: it was gone when the socket was adopted.
        lock: None: an upgrade could not take it over.
    """

    path: str
    file: Identity | None
    lock: LockFile | None

    @classmethod
    def claim(cls, path: str) -> SocketFile:
        """Lock the path of a socket that listens already.

        Raises:
            OSError: another process has locked it.
        """
        return cls(path, file_of(path), _lock(path))

    def is_at(self, path: str) -> bool:
        """Whether a client that connects to `path` reaches the socket: the file is neither removed nor replaced."""
        return self.file is not None and file_of(path) == self.file

    @property
    def reachable(self) -> bool:
        """Whether it is still at its own path."""
        return self.is_at(self.path)

    def set_mode(self, umask: int | None) -> None:
        """Give the file the mode that bind(2) would give it; not if another file lies there.

        Args:
            umask: None: that of this process.

        Raises:
            OSError: it cannot be changed. EPERM: this process is privileged, and another user can write to the directory: it may
                have been another socket of root's that was found there after bind(2).
        """
        if umask is None:
            umask = os.umask(0o077)
            os.umask(umask)
        mode = 0o777 & ~umask
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                found = os.fstat(fd)
                mine = self.file == (found.st_dev, found.st_ino) and found.st_nlink == 1
                if mine and stat.S_IMODE(found.st_mode) != mode:
                    os.close(directories.open_directory(os.path.dirname(self.path), exclusive=True))  # noqa: PTH120 - a text
                    # by path it would follow links; fchmod(2) takes no O_PATH
                    Path(f"/proc/self/fd/{fd}").chmod(mode)
            finally:
                os.close(fd)

    def remove(self, *, keep: bool = False) -> None:
        """Remove the file if it is still this socket's (`keep`: leave it), then the lock file; nothing in a forked child."""
        if self.lock is None:
            return
        try:
            if not keep and self.lock.directory >= 0 and self.reachable:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.basename(self.path), dir_fd=self.lock.directory)  # noqa: PTH119 - as `lockfile` has it
        finally:
            self.lock.remove()


def listen(path: str, backlog: int, umask: int | None = None) -> tuple[socket.socket, SocketFile]:
    """Return a non-blocking UNIX socket that listens at `path`; a stale file there is replaced.

    Args:
        path: absolute.
        backlog: as of listen(2).
        umask: for the file: permission to write to it is permission to connect (unix(7)); None: that of this process.

    Raises:
        OSError: neither socket nor file is left. EADDRINUSE: another process listens there, or has locked the path.
    """
    with contextlib.ExitStack() as undo:
        lock = _lock(path)
        undo.callback(lock.remove)
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        _remove_stale(path, lock.directory)
        before = os.umask(umask) if umask is not None else None
        try:
            sock.bind(path)
        finally:
            if before is not None:
                os.umask(before)
        undo.callback(os.unlink, os.path.basename(path), dir_fd=lock.directory)  # noqa: PTH119 - as above
        rights.refuse(sock)
        sock.listen(backlog)
        sock.setblocking(False)
        made = SocketFile(path, file_of(path), lock)
        undo.pop_all()
    return sock, made


def obstacle(path: str) -> OSError | None:
    """Return why no process could listen at `path` now; takes no lock and does not listen."""
    if file_of(path) is None and os.path.lexists(path):
        return OSError(errno.EEXIST, "the path exists and is not a socket")
    if file_of(path) is not None and occupants.of_unix(path):
        return OSError(errno.EADDRINUSE, "another process listens there")
    holder = lockfile.holder(path + SUFFIX)
    if holder is not None:
        return _taken(path, str(holder))
    return lockfile.obstacle(path + SUFFIX)


def file_of(path: str) -> Identity | None:
    """Return which socket file lies at `path`; None: there is none.

    The number is not given to another file while a socket that was bound there is open: the socket keeps its inode.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


def _lock(path: str) -> LockFile:
    try:
        return LockFile.take(path + SUFFIX)
    except lockfile.HeldError as error:
        raise _taken(path, error.pid) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OSError(error.errno, f"cannot lock {path}{SUFFIX}: {error.strerror}") from error


def _taken(path: str, pid: str) -> OSError:
    return OSError(errno.EADDRINUSE, f"another daemon has it: process {pid} holds {path}{SUFFIX}")


def _remove_stale(path: str, directory: int) -> None:
    """Unlink a socket file that no process listens on any more (left by a kill -9); leave a live one and other files alone.

    Raises:
        OSError: EADDRINUSE when someone listens there, EEXIST when the path is something else than a socket.
    """
    file = file_of(path)
    if file is None:
        if os.path.lexists(path):
            raise OSError(errno.EEXIST, "the path exists and is not a socket")
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            if file_of(path) == file:
                os.unlink(os.path.basename(path), dir_fd=directory)  # noqa: PTH119 - as above
            return
        except FileNotFoundError:
            return
        except (TimeoutError, BlockingIOError):
            pass  # its queue is full: it lives
    raise OSError(errno.EADDRINUSE, "another process listens there")
