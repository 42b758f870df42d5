"""The pid file: written once the daemon is there, locked while it lives, removed by the process that wrote it.

Theory of operation. The lock, not the number, tells whether the file belongs to a daemon: after a kill -9, or in a container that
starts again, any process may have the number. It is a record lock of fcntl(2), for three properties: a child does not inherit it
(a worker that still drains does not hold the file of a parent that was killed), an exec keeps it (an upgrade), and it ends with
the process. A close of any descriptor of the file drops it, so this module opens no file twice in one process. Neither flock(2)
nor an open file description lock would do: both live on in every fork.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from pathlib import Path

from apid.errors import ConfigError

TRIES = 10
"""How often the file may change between a look and what follows from it."""

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of fcntl(2) with 64-bit offsets: type, whence, start, length, pid."""


class PidFile:
    """`path` holding this process's pid and a newline.

    What no running daemon holds is replaced, whatever is in it; a symbolic link is replaced and never followed.

    Args:
        path: absolute.
        fd: the descriptor of the file, carried over an exec; without it the file is made here.

    Raises:
        ConfigError: a running daemon holds it, or it cannot be written.
    """

    def __init__(self, path: str, fd: int | None = None) -> None:
        self.path = path
        self._pid = os.getpid()
        self._text = f"{self._pid}\n".encode()
        try:
            self.fd = fd if fd is not None else self._claim()
        except OSError as error:
            raise ConfigError(f"option pid_file: cannot write {path}: {error.strerror}") from error

    def is_at(self, path: str) -> bool:
        """Whether the file at `path` is this one: not removed, not replaced, perhaps under another name."""
        return self.fd >= 0 and _identity(path) == _identity_of(os.fstat(self.fd))

    def write(self) -> None:
        """Write the number again if somebody has written something else into the file.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            if self.fd >= 0 and os.pread(self.fd, len(self._text) + 1, 0) != self._text:
                os.pwrite(self.fd, self._text, 0)
                os.ftruncate(self.fd, len(self._text))
        except OSError as error:
            raise ConfigError(f"option pid_file: cannot write {self.path}: {error.strerror}") from error

    def remove(self) -> None:
        """Remove it if it is still ours, and only in the process that wrote it (not in a forked child); close it."""
        try:
            ours = os.getpid() == self._pid and self.is_at(self.path)
            if ours and os.pread(self.fd, 64, 0) == self._text:
                with contextlib.suppress(OSError):
                    os.unlink(self.path)
        finally:
            self.close()

    def close(self) -> None:
        """Close the descriptor; in the process that wrote it the lock ends with that."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _claim(self) -> int:
        for _ in range(TRIES):
            old = self._lock_old()
            try:
                if old is not None and _identity(self.path) != _identity_of(os.fstat(old)):
                    continue  # its daemon removed it meanwhile
                fd = self._try(replace=old is not None)
            finally:
                if old is not None:
                    os.close(old)
            if fd is not None:
                return fd
        raise OSError(errno.EBUSY, "others keep writing it")

    def _lock_old(self) -> int | None:
        """Lock the file that is there; None when there is none. A link is removed: it belongs to no daemon."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ELOOP or not Path(self.path).is_symlink():
                raise
            os.unlink(self.path)
            return None
        try:
            _check_regular(fd)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            try:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    number = os.pread(fd, 64, 0).strip().decode("ascii", "replace")
                    raise ConfigError(
                        f"option pid_file: {self.path} belongs to the running process {number}"
                    ) from error
                raise
            finally:
                os.close(fd)
        return fd

    def _try(self, *, replace: bool) -> int | None:
        """Make the file and move it to its path, so that a reader never sees an empty one; None: another daemon was faster."""
        part = f"{self.path}.{self._pid}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, self._text)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if replace:
                os.replace(part, self.path)  # noqa: PTH105 - beside its sister calls
            else:
                os.link(part, self.path)  # unlike rename(2) it fails where another daemon has just put its own
                os.unlink(part)
        except BaseException as error:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(part)
            if isinstance(error, FileExistsError):
                return None
            raise
        return fd


def holder(path: str) -> int | None:
    """Return the pid of the daemon that holds a pid file; None: there is none, or it cannot be read. Takes no lock itself."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return None
    finally:
        os.close(fd)
    kind, _, _, _, pid = _FLOCK.unpack(answer)
    return pid if kind == fcntl.F_WRLCK else None


def _check_regular(fd: int) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        return _identity_of(os.lstat(path))
    except OSError:
        return None


def _identity_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
