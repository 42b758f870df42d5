"""Directories that a privileged process may use: nobody else can exchange a component of the path between two steps.

Theory of operation. A path is a sequence of lookups, and a user who may write to a directory decides what the next lookup finds:
that user can lead a root process that creates, renames or unlinks by such a path elsewhere. Therefore the path is walked
descriptor by descriptor, and each directory must be one whose entries only trusted users can exchange. Root, the user of this
process, and the owner of `/`, who can replace every path, are trusted (in a user namespace the latter may be the overflow user
of the kernel). A process without privileges is checked by the kernel at each lookup: for it, the path is opened as it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
from collections.abc import Collection
from pathlib import Path

MOST_LINKS = 40
"""Symbolic links in one path, the limit of the kernel (ELOOP of open(2))."""

_CAP_DAC_OVERRIDE = 1 << 1
"""The capability to write to files and directories of other users (capabilities(7))."""

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def privileged() -> bool:
    """Return whether this process is root, or has the capability to write in spite of permissions."""
    if os.geteuid() == 0:
        return True
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) & _CAP_DAC_OVERRIDE)
    return False


def open_directory(path: str, *, exclusive: bool = False) -> int:
    """Return a descriptor (O_PATH, close-on-exec) of the directory `path`.

    In a privileged process, all directories above the last one must be safe: owned by a trusted user and not writable by others.
    A sticky one (/tmp) may be writable if the entry that is looked up has a trusted owner. Symbolic links are followed under
    the same conditions.

    Args:
        path: absolute.
        exclusive: the last directory must be safe too: only trusted users may create, rename or remove its entries. A caller that
            does not ask for it must expect any entry there, and follow none.

    Raises:
        OSError: there is no such directory; EPERM: another user could exchange a component, which `strerror` names.
    """
    if not privileged():
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    walk = _Walk(os.open("/", _LOOK))
    with contextlib.ExitStack() as undo:
        undo.callback(walk.close)
        walk.trust()
        walk.follow(path)
        if exclusive:
            walk.check(None)
        undo.pop_all()
    return walk.fd


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a file is, or would be made.

    Attributes:
        directory: descriptor (O_PATH, close-on-exec) that the caller closes. name: in it.
        safe: only trusted users can make, exchange or move what is there.
        follow: O_NOFOLLOW, or 0 for a link of /proc to what is open already, which stands for no path (proc(5)).
    """

    directory: int
    name: str
    safe: bool
    follow: int


def open_place(path: str, *, exclusive: bool, groups: Collection[int] | None = None) -> Place:
    """Find the place of the file `path`, for a privileged process; links are followed, that of the last component included.

    Args:
        path: absolute.
        exclusive: refuse a place that is not safe. Otherwise one is returned, but no link is followed from there on.
        groups: whose members must not be able to exchange a component; None: no group but root's may. A directory that another
            group may write to (Ubuntu's /var/log, for the group syslog) is not refused; what lies below is not safe, and no
            link is followed from there on.

    Raises:
        OSError: there is no such directory; EPERM: another user could lead the way elsewhere. `strerror` names the place.
    """
    walk = _Walk(os.open("/", _LOOK), refuse=exclusive, groups=groups)
    with contextlib.ExitStack() as undo:
        undo.callback(walk.close)
        walk.trust()
        directory, name = os.path.split(path)
        walk.follow(directory)
        while (walk.shared or not walk.in_proc()) and _is_link(walk.fd, name):
            directory, name = os.path.split(walk.step(name))
            walk.follow(directory)
        walk.check(None)
        undo.pop_all()
    return Place(walk.fd, name, not walk.shared, 0 if walk.in_proc() and not walk.shared else os.O_NOFOLLOW)


def _is_link(directory: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _has_list(directory: int) -> bool:
    """Whether a directory has an access control list; its group permissions are then the mask of all entries (acl(5))."""
    try:
        os.getxattr(f"/proc/self/fd/{directory}", "system.posix_acl_access")
    except OSError:
        return False
    return True


class _Walk:
    """A walk from `/`; `fd` is the directory that it has reached.

    Args:
        root: descriptor of `/`, owned from here on.
        refuse: raise where others can exchange entries; otherwise `shared` says why, and no link is followed from there on.
        groups: as `open_place` has them.
    """

    def __init__(self, root: int, *, refuse: bool = True, groups: Collection[int] | None = None) -> None:
        self.fd = root
        self.shared = ""
        self._refuse = refuse
        self._groups = groups
        self._trusted = {0, os.geteuid()}
        self._names: list[str] = []
        self._links = 0

    def close(self) -> None:
        os.close(self.fd)

    def trust(self) -> None:
        """Trust the owner of `/`."""
        self._trusted.add(os.fstat(self.fd).st_uid)

    def follow(self, path: str) -> None:
        """Walk on to `path`, from `/` at first."""
        todo = path.split("/")[::-1]
        while todo:
            name = todo.pop()
            if name not in ("", "."):
                todo += self.step(name).split("/")[::-1]

    def _restart(self) -> None:
        root = os.open("/", _LOOK)
        os.close(self.fd)
        self.fd, self._names = root, []

    def step(self, name: str) -> str:
        """Enter a directory; of a link, return what it stands for instead, after a restart if that is absolute."""
        there = os.open(name, _LOOK, dir_fd=self.fd)
        try:
            found = os.fstat(there)
            self.check(found.st_uid)
            if stat.S_ISLNK(found.st_mode):
                return self._read(name, there, found)
            if not stat.S_ISDIR(found.st_mode):
                raise OSError(errno.ENOTDIR, f"{self._spell(name)} is not a directory")
            self.fd, there = there, self.fd
        finally:
            os.close(there)
        if name != "..":
            self._names.append(name)
        elif self._names:
            self._names.pop()
        return ""

    def _read(self, name: str, link: int, found: os.stat_result) -> str:
        self._links += 1
        if self._links > MOST_LINKS:
            raise OSError(errno.ELOOP, f"{self._spell(name)}: {os.strerror(errno.ELOOP)}")
        if (
            found.st_uid not in self._trusted or found.st_nlink > 1
        ):  # with a second name it may have been put here by others
            why = "has several names" if found.st_uid in self._trusted else f"belongs to user {found.st_uid}"
            text = f"the symbolic link {self._spell(name)} {why}, and a privileged process must not follow it"
            raise OSError(errno.EPERM, text)
        if self.shared:
            text = f"{self.shared}, so a privileged process does not follow the symbolic link {self._spell(name)}"
            raise OSError(errno.EPERM, text)
        target = os.readlink("", dir_fd=link)
        if target.startswith("/"):
            self._restart()
        return target

    def check(self, owner: int | None) -> None:
        """Raise OSError (EPERM) unless only trusted users can exchange the entry of `owner` in the directory reached.

        None: they must be the only ones who can make and exchange any entry.
        """
        found = os.fstat(self.fd)
        if found.st_uid not in self._trusted:
            self._found(f"belongs to user {found.st_uid}")
            return
        by_list = bool(found.st_mode & stat.S_IWGRP) and _has_list(self.fd)
        by_group = by_list or (bool(found.st_mode & stat.S_IWGRP) and found.st_gid != 0)
        by_others = bool(found.st_mode & stat.S_IWOTH)
        if not by_group and not by_others:
            return
        if owner in self._trusted and found.st_mode & stat.S_ISVTX:
            return
        harmless = self._groups is not None and not by_others and not by_list and found.st_gid not in self._groups
        writers = "an entry of its access control list" if by_list else f"group {found.st_gid}"
        self._found(f"is writable by {'everybody' if by_others else writers}", harmless)

    def _found(self, why: str, harmless: bool = False) -> None:
        here = f"the directory {self._spell()} {why}"
        self.shared = self.shared or here
        if self._refuse and not harmless:
            text = f"{here}, and a privileged process must not be led elsewhere by other users"
            raise OSError(errno.EPERM, text)

    def in_proc(self) -> bool:
        """Return whether it has reached a directory of a process in /proc."""
        return self._names[:1] == ["proc"]

    def _spell(self, name: str = "") -> str:
        return "/" + "/".join([*self._names, *([name] if name else [])])
