"""Privileges beside the user of a process that a worker must not keep: capabilities, and the terminal of another user."""

from __future__ import annotations

import contextlib
import ctypes
import os

_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def drop_capabilities() -> None:
    """Clear the effective, permitted, inheritable and ambient sets of this thread, unless it is root's (capabilities(7)).

    A unit of systemd may give them to a daemon without root, and securebits may keep them over a change of the user. They stay
    where a filter of system calls forbids the call. Without any nothing is called: a filter may end the process that tries.
    """
    if os.geteuid() == 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, held = _Header(_LINUX_CAPABILITY_VERSION_3, 0), (_Data * 2)()
    if libc.capget(ctypes.byref(header), held) == 0 and not any(bytes(held)):
        return  # nor are there ambient ones, which are permitted and inheritable, too
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    libc.capset(ctypes.byref(header), (_Data * 2)())


def leave_terminal() -> None:
    """Leave the controlling terminal, read nothing, and only write to a terminal; for a child, before it changes its user.

    With the terminal of its former user, a process could read what that user types, and type in that user's name (TIOCSTI). A
    session of its own prevents the latter, but not the former: a stream of a terminal is open for reading and writing.
    """
    with contextlib.suppress(
        PermissionError
    ):  # it leads its process group: serving inline, there is no parent to attack
        os.setsid()
    for fd, path, mode in ((0, os.devnull, os.O_RDONLY), *((fd, f"/proc/self/fd/{fd}", os.O_WRONLY) for fd in (1, 2))):
        if fd == 0 or os.isatty(fd):
            with contextlib.suppress(OSError):  # no /proc: a log is worth more
                new = os.open(path, mode | os.O_NOCTTY)
                os.dup2(new, fd)
                os.close(new)
