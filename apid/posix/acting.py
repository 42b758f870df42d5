"""Temporary privileges of another user, for what root does with a path that this user may lead elsewhere.

The kernel then checks each step of the path with that user's rights, even if links and directories are exchanged in between. The
real and the saved user id stay root's, so the other user can neither signal nor trace this process. apid.posix.processes
drops privileges for good.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the wrappers load nothing but the standard library
    from apid.conf.identity import User

_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG = 1, 2
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4


def separate(who: User | None) -> bool:
    """Return whether this process is root and `who` is not, so that there is a boundary between the two."""
    return who is not None and who.uid != 0 and os.geteuid() == 0


def groups(who: User) -> list[int]:
    """Return the groups that a process of `who` is in."""
    return os.getgrouplist(who.name, who.gid) if who.name is not None else [who.gid]


@contextlib.contextmanager
def acting_as(who: User | None) -> Iterator[None]:
    """Have the effective ids and the groups of `who` in the block; without a boundary (`separate`) nothing changes.

    For a process of one thread: the ids of all threads change (nptl(7)).

    Raises:
        OSError: this process may not change to them.
    """
    if who is None or not separate(who):
        yield
        return
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    signum = ctypes.c_int()
    prctl(_PR_GET_PDEATHSIG, ctypes.byref(signum), 0, 0, 0)
    kept = os.getegid(), os.getgroups(), prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    try:
        os.setgroups(groups(who))
        os.setegid(who.gid)
        os.seteuid(who.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(kept[0])
        with contextlib.suppress(PermissionError):  # it may not change them: then they are as they were
            os.setgroups(kept[1])
        # A change of the effective ids resets both (prctl(2)).
        prctl(_PR_SET_DUMPABLE, kept[2], 0, 0, 0)
        prctl(_PR_SET_PDEATHSIG, signum.value, 0, 0, 0)
