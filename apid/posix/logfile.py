"""Opening a file to append to it, such as a log, in a directory that others may write to. What is written is the caller's.

Theory of operation. A root process opens the file as the workers' user, whose own the directory usually is: the kernel checks
each step with that user's rights, and a file that is made is the user's at once. Only where the user may not, because the
directory is root's, does root itself open it: by a way that nobody else can exchange (apid.posix.directories), without
following a link at its end, only a file with one name, and giving away only what this very call has made. A root process whose
workers are root opens whatever the configuration names, but follows no link that another user can have made.

Nothing waits: FIFOs are opened without a reader, and no terminal becomes the controlling one.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from apid.posix import acting, directories

if TYPE_CHECKING:  # the wrappers load nothing but the standard library
    from apid.conf.identity import User

_FLAGS = os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

MOST_TRIES = 10
"""Times that a file may appear between the look for it and its making, or go again."""


def open_to_append(path: str, mode: int, user: User | None = None) -> int:
    """Open a file, or make it; returns a descriptor that can be read too where that is allowed.

    Args:
        path: a relative one starts from the working directory.
        mode: of a file that is made, less the umask.
        user: whom the workers run as.

    Raises:
        OSError: it cannot be opened; `strerror` names the directory or link that is the reason, if one is.
    """
    if not directories.privileged():
        return _open(path, mode)
    separate = acting.separate(user)
    if separate:
        try:
            with acting.acting_as(user):
                return _open(path, mode)
        except PermissionError:
            pass
    place = _place(path, separate, acting.groups(user) if separate and user is not None else None)
    try:
        # In a directory of another group, nothing that this group puts there can be read by the workers.
        return _open_as_root(place, mode, user, os.O_WRONLY if separate and not place.safe else os.O_RDWR)
    finally:
        os.close(place.directory)


def opener(path: str, flags: int) -> int:
    """Open a file for open(), with the same care, in a process whose user is the one who shall have it.

    Raises:
        OSError: it cannot be opened; a FIFO without a reader neither.
    """
    flags |= os.O_NONBLOCK | os.O_NOCTTY
    if not directories.privileged():
        return os.open(path, flags, 0o666)
    place = _place(path, False)
    try:
        fd = _checked(os.open(place.name, flags & ~os.O_TRUNC | place.follow, 0o666, dir_fd=place.directory), place)
    finally:
        os.close(place.directory)
    if flags & os.O_TRUNC and stat.S_ISREG(os.fstat(fd).st_mode):
        os.ftruncate(fd, 0)
    return fd


def _open(path: str, mode: int) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, mode)
    except PermissionError:
        return os.open(path, os.O_WRONLY | os.O_CREAT | _FLAGS, mode)


def _place(path: str, exclusive: bool, groups: list[int] | None = None) -> directories.Place:
    try:
        return directories.open_place(os.path.abspath(path), exclusive=exclusive, groups=groups)
    except PermissionError:
        raise
    except OSError as error:  # as open(2) says it
        raise OSError(error.errno, os.strerror(error.errno or 0)) from error


def _open_as_root(place: directories.Place, mode: int, user: User | None, way: int) -> int:
    flags = way | _FLAGS | place.follow
    for _ in range(MOST_TRIES):
        try:
            fd = os.open(place.name, flags, dir_fd=place.directory)
        except FileNotFoundError:
            try:
                fd = os.open(place.name, flags | os.O_CREAT | os.O_EXCL, mode, dir_fd=place.directory)
            except FileExistsError:
                continue  # another process was faster
            _give(fd, place, user)
            return fd
        return _checked(fd, place)
    raise OSError(errno.EAGAIN, "others make and remove it all the time")


def _give(fd: int, place: directories.Place, user: User | None) -> None:
    """Give away what was just made; where that fails, on a network file system for example, it is removed."""
    try:
        if user is not None:
            os.fchown(fd, user.uid, user.gid)
    except BaseException:
        os.close(fd)
        os.unlink(place.name, dir_fd=place.directory)
        raise


def _checked(fd: int, place: directories.Place) -> int:
    """Return the descriptor of a file that was there before; refuse one that another user can have put there."""
    found = os.fstat(fd)
    reason = ""
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        reason = f"it has {found.st_nlink} names (hard links), and under another one it may be any file"
    elif not place.safe and found.st_uid not in (0, os.fstat(place.directory).st_uid):
        reason = f"it belongs to user {found.st_uid}, and others may write to its directory"
    if reason:
        os.close(fd)
        raise OSError(errno.EPERM, reason)
    return fd
