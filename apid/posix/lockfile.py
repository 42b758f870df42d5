"""Lock files: they hold the pid of a process, which locks them while it lives and removes them at its end.

Theory of operation. The lock, not the number, shows whether the file belongs to a daemon: after a kill -9, or in a container that
starts again, any process may have the number. It is a record lock of fcntl(2), for three properties: a child does not inherit it
(a worker that still drains does not hold the file of a parent that was killed), an exec keeps it (an upgrade), and it ends with
the process. A close of any descriptor of the file drops it, so this module knows what this process holds and opens no file
twice. Neither flock(2) nor an open file description lock would do: both live on in every fork.

A file appears at its path already locked, with the number in it. A file without a lock is stale; a process
replaces it while it holds its lock. A file is removed before its lock ends. So only the holder takes each step, and of several
processes that start at the same moment one gets the path.

Files are made, renamed and removed relative to the descriptor of their directory; nothing is followed (`directories`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import struct
import time

from apid.posix import directories

TRIES = 10
"""How often the file may change between a look and what follows from it."""

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of fcntl(2) with 64-bit offsets: type, whence, start, length, pid."""

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Identity = tuple[int, int]
"""Device and inode."""


class HeldError(OSError):
    """A running process holds the file."""

    def __init__(self, pid: str) -> None:
        super().__init__(errno.EADDRINUSE, f"belongs to the running process {pid}")
        self.pid = pid


class LockFile:
    """`path` holding the pid of this process and a newline.

    What no running daemon holds is replaced, whatever is in it; a symbolic link is replaced and never followed.

    Args:
        path: absolute.
        fd: the descriptor of the file, carried over an exec; without it the file is made here.
        mode: of a file that is made here. Permission to read is enough for a read lock, which can block a start.

    Raises:
        HeldError: a running process holds it.
        OSError: it cannot be written.
    """

    def __init__(self, path: str, fd: int | None = None, *, mode: int = 0o600) -> None:
        self.path = path
        self._pid = os.getpid()
        self._mode = mode
        self._text = f"{self._pid}\n".encode()
        self.claims = 1
        """How often `remove` must be called."""
        directory, self._name = os.path.split(path)
        with contextlib.ExitStack() as undo:
            self.directory = -1
            if fd is None:
                self.directory = directories.open_directory(directory)
                undo.callback(os.close, self.directory)
                fd = self._claim()
                undo.callback(self._unmake, fd)
            else:
                with contextlib.suppress(OSError):  # it may be gone
                    self.directory = directories.open_directory(directory)
                    undo.callback(os.close, self.directory)
            self._identity = _identity_of(os.fstat(fd))
            undo.pop_all()
        self.fd = fd
        _held[self._identity] = self

    @classmethod
    def take(cls, path: str, fd: int | None = None) -> LockFile:
        """Return the lock file at `path`; it is this process's until `remove` is called as often as this.

        Raises:
            OSError: as the constructor.
        """
        mine = _held.get(_identity_at(path) if fd is None else _identity_of(os.fstat(fd)))
        if mine is None:
            return cls(path, fd)
        mine.claims += 1
        return mine

    def is_at(self, path: str) -> bool:
        """Whether the file at `path` is this one: not removed, not replaced, perhaps under another name."""
        return self.fd >= 0 and _identity_at(path) == self._identity

    def remove(self) -> None:
        """Remove it if it is still ours, and only in the process that wrote it (not in a forked child); close it."""
        self.claims -= 1
        if self.claims > 0:
            return
        try:
            ours = self.fd >= 0 and os.getpid() == self._pid and self._is_in_place(self._identity)
            if ours and os.pread(self.fd, 64, 0) == self._text:
                with contextlib.suppress(OSError):
                    os.unlink(self._name, dir_fd=self.directory)
        finally:
            self.close()

    def close(self) -> None:
        """Close the descriptors; in the process that wrote the file the lock ends with that."""
        if _held.get(self._identity) is self:
            del _held[self._identity]
        fds, self.fd, self.directory = (self.fd, self.directory), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    # ---- how it comes to be at its path ----

    def _is_in_place(self, identity: Identity, name: str | None = None) -> bool:
        return self.directory >= 0 and _identity_at(name or self._name, self.directory) == identity

    def _claim(self) -> int:
        for _ in range(TRIES):
            old = self._open_old()
            try:
                if old is not None and not (_locked(old) and self._is_in_place(_identity_of(os.fstat(old)))):
                    continue  # its daemon has removed or replaced it in the meantime
                fd = self._make(replace=old is not None)
            finally:
                if old is not None:
                    os.close(old)
            if fd is not None:
                return fd
        raise OSError(errno.EBUSY, "others keep writing it")

    def _open_old(self) -> int | None:
        """Open the file that is there; None when there is none. Nothing but a regular file is opened: a device may act on it."""
        try:
            found = os.stat(self._name, dir_fd=self.directory, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                self._remove_link()
                return None
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            if _identity_of(found) in _held:
                raise OSError(errno.EBUSY, "this daemon holds it already, for something else")
            return os.open(self._name, _FLAGS, dir_fd=self.directory)
        except FileNotFoundError:
            return None

    def _remove_link(self) -> None:
        """Remove a symbolic link: it belongs to no daemon. Another start may be doing the same, and put its file there next."""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.directory)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if stat.S_ISLNK(os.stat(self._name, dir_fd=self.directory, follow_symlinks=False).st_mode):
                os.unlink(self._name, dir_fd=self.directory)
        except BlockingIOError:
            time.sleep(0.001)
        finally:
            os.close(fd)

    def _make(self, *, replace: bool) -> int | None:
        """Make the file and move it to its path, so that a reader never sees an empty one; None: another daemon was faster.

        replace: the lock of the file that lies there is held.
        """
        part, at = f".apid-{secrets.token_hex(8)}", self.directory
        fd = os.open(part, _FLAGS | os.O_CREAT | os.O_EXCL, self._mode, dir_fd=at)
        try:
            os.write(fd, self._text)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if replace:
                os.replace(part, self._name, src_dir_fd=at, dst_dir_fd=at)
            else:
                # unlike rename(2) it fails where another daemon has just put its own
                os.link(part, self._name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
                os.unlink(part, dir_fd=at)
        except BaseException as error:
            self._unmake(fd, part)
            if isinstance(error, FileExistsError):
                return None
            raise
        return fd

    def _unmake(self, fd: int, *parts: str) -> None:
        """Remove what `_make` made, under whatever names, and close it."""
        try:
            for name in (*parts, self._name):
                with contextlib.suppress(OSError):
                    if self._is_in_place(_identity_of(os.fstat(fd)), name):
                        os.unlink(name, dir_fd=self.directory)
        finally:
            os.close(fd)


_held: dict[Identity | None, LockFile] = {}
"""What this process holds: record locks are a process's, and so is this."""


def _let_go() -> None:
    """In a forked child: the locks are the parent's; what is open here would only stay open."""
    for each in list(_held.values()):
        with contextlib.suppress(OSError):  # an application that serves inline may have closed it
            each.close()


os.register_at_fork(after_in_child=_let_go)


def obstacle(path: str) -> OSError | None:
    """Return why no lock file could be made at `path` now, regardless of a holder; makes nothing."""
    directory = os.path.dirname(path)  # noqa: PTH120 - as above
    try:
        os.close(directories.open_directory(directory))
        if not os.access(directory, os.W_OK | os.X_OK):
            return OSError(errno.EACCES, f"the directory {directory} cannot be written")
        mode = os.lstat(path).st_mode
        return None if stat.S_ISREG(mode) or stat.S_ISLNK(mode) else OSError(errno.EINVAL, f"{path} is no regular file")
    except FileNotFoundError:
        return None if os.path.isdir(directory) else OSError(errno.ENOENT, f"there is no directory {directory}")  # noqa: PTH112 - as above
    except OSError as error:
        return error


def holder(path: str) -> int | None:
    """Return the pid of the process that holds a lock file; None: there is none, or it cannot be read. Takes no lock itself.

    A process of another pid namespace is 0.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _owner(fd, fcntl.F_RDLCK)
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    """Lock a file; False: another process had locked it, and has ended or unlocked it since.

    Raises:
        HeldError: a process has locked it.
    """
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        pid = _owner(fd, fcntl.F_WRLCK)
        if pid is None:
            return False
        number = os.pread(fd, 64, 0).strip()  # the kernel reports no pid of another pid namespace
        raise HeldError(str(pid or (number.decode() if number.isdigit() else "?"))) from error
    return True


def _owner(fd: int, kind: int) -> int | None:
    """Return the pid of the process whose lock on a file excludes one of this kind; only a daemon's excludes a read lock."""
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return None
    found, _, _, _, pid = _FLOCK.unpack(answer)
    return pid if found != fcntl.F_UNLCK else None


def _identity_at(path: str, directory: int | None = None) -> Identity | None:
    try:
        return _identity_of(os.stat(path, dir_fd=directory, follow_symlinks=False))
    except OSError:
        return None


def _identity_of(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino
