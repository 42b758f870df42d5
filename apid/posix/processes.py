"""Processes: fork, reap, identity, privileges. No policy: who is forked, and why, is decided elsewhere."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from apid.errors import ConfigError, ExitCode
from apid.posix import native, privileges, signals

if TYPE_CHECKING:  # the wrappers load nothing but the standard library
    from apid.conf.identity import User

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

ADOPTION = 0.0002
"""Seconds between two looks whether the kernel has given a process its new parent."""


def fork(child: Callable[[], NoReturn]) -> int:
    """Fork; the child runs `child` with all signals blocked and never returns here. Returns the child's pid.

    The child dies with this process (PR_SET_PDEATHSIG) until it decides otherwise; nothing that may block comes before that.

    Raises:
        OSError: fork(2) failed: EAGAIN (a limit on processes), ENOMEM.
    """
    flush()
    parent = os.getpid()
    with signals.blocked():
        pid = os.fork()
        if pid == 0:
            try:
                die_with_parent(True)
                if os.getppid() != parent:
                    os._exit(ExitCode.OK)  # it died before the call
                child()
            except BaseException:  # noqa: BLE001 - the last line before the parent's own stack would go on in the child
                traceback.print_exc()
            finally:
                os._exit(ExitCode.BUG)
    return pid


def orphan(child: Callable[[], NoReturn]) -> None:
    """Run `child` as `fork` does, in a process that is no child of this one: only an end of its own ends it.

    Raises:
        OSError: as `fork`.
    """

    def between() -> NoReturn:
        try:
            pid = os.fork()
        except OSError:
            os._exit(ExitCode.BUG)
        if pid == 0:
            child()
        os._exit(ExitCode.OK)

    if wait(fork(between)) != ExitCode.OK:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def adopt_orphans(yes: bool) -> None:
    """Become the parent of each descendant whose own parent ends, or no longer (PR_SET_CHILD_SUBREAPER, prctl(2)).

    An exec keeps it.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)


def bear(parent: int) -> bool:
    """Fork a process that is a child of `parent`, a subreaper above this process. Returns True in it, False here.

    In between is a process that ends at once: by that its child gets its new parent. It is forked without Python's at-fork
    functions, which run once: those of the application may open connections. The new process has all signals blocked, and dies
    with its parent.

    Raises:
        OSError: fork(2) failed.
    """
    flush()
    mold = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        between = ctypes.PyDLL(None, use_errno=True).fork()
        if between == 0:
            die_with_parent(True)  # at-fork functions of the application may hang
            if os.getppid() != mold:
                os._exit(ExitCode.OK)
            _bear(parent)
            return True
        if between < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        _, status = native.waitpid(between, 0)
    finally:
        if os.getpid() == mold:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    error = os.waitstatus_to_exitcode(status)
    if error > 0:
        raise OSError(error, os.strerror(error))
    return False


def _bear(parent: int) -> None:
    """In the process in between: fork, and return in the child only, once it has its parent."""
    me = os.getpid()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # eventlet's, at each fork
            pid = os.fork()
    except OSError as error:
        os._exit(error.errno or errno.EAGAIN)
    except BaseException:  # noqa: BLE001 - a copy of the mold's stack goes on in neither process
        os._exit(errno.EIO)
    if pid:
        os._exit(0)
    await_adoption(me)
    if os.getppid() != parent:
        os._exit(ExitCode.OK)


def await_adoption(between: int) -> None:
    """In a child of `between`: wait until that process has ended, and die with the parent that the kernel gives to this one."""
    while os.getppid() == between:
        native.sleep(ADOPTION)
    die_with_parent(True)


def children() -> list[int]:
    """Return the children of this process (proc(5)); empty where the kernel does not say."""
    me = os.getpid()
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_text(encoding="ascii").split()]
    return []


def name(pid: int) -> str:
    """Return the 15 octets of its name that the kernel keeps (prctl(2)); empty once it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    return ""


def flush() -> None:
    """Write out what is buffered, as far as possible: a child would write it a second time, os._exit would lose it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a full disk; closed, None, or whatever else an application has put there
            stream.flush()


def reap() -> Iterator[tuple[int, int | None]]:
    """Collect the children that have ended: (pid, exit code), negative for a signal, as `os.waitstatus_to_exitcode`.

    The code is None for one that has not ended: it has made this process its tracer (ptrace(2)), and is stopped
    until it is killed.
    """
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = found
            yield pid, None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def let_children_drain(seconds: float) -> None:
    """Send SIGTERM to every child, and wait until all have ended or `seconds` have passed.

    For a parent that cannot supervise any more: the kernel knows who its children are.
    """
    for pid in children():
        kill(pid, signal.SIGTERM)
    end = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < end:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)


def close_all_but(fd: int) -> None:
    """Close every descriptor from 3 on, except one."""
    try:
        found = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError:  # without /proc; the limit may be a thousand million
        found = [*range(3, min(os.sysconf("SC_OPEN_MAX"), 65536))]
    for each in found:
        if each > 2 and each != fd:
            with contextlib.suppress(OSError):
                os.close(each)


def is_child(pid: int) -> bool:
    """Whether it is a child of this process that nobody has waited for yet, alive or not."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def wait(pid: int) -> int:
    """Wait for one child to end; returns its exit code, negative for a signal. One that is stopped (see `reap`) is killed."""
    while os.WIFSTOPPED(status := os.waitpid(pid, 0)[1]):
        kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


def ended(pid: int, seconds: float | None) -> bool:
    """Wait until a child has ended, or for `seconds` (None: without limit); returns whether it has."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))
    finally:
        os.close(pidfd)


def kill(pid: int, signum: int, *, group: bool = False) -> bool:
    """Send a signal to a process, or to the whole group that it leads; False when it is gone."""
    try:
        (os.killpg if group else os.kill)(pid, signum)
    except ProcessLookupError:
        return False
    return True


def die_with_parent(yes: bool) -> None:
    """Have the kernel send SIGKILL when the parent dies, or no longer (PR_SET_PDEATHSIG, prctl(2)).

    A change of the user id resets it; an exec of the parent is not its death. A parent that died before the call is the caller's
    to notice.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if yes else 0, 0, 0, 0)


def drop_privileges(who: User | None, umask: int | None) -> None:
    """Become another user for good, supplementary groups and the terminal included; None changes nothing.

    Raises:
        ConfigError: the process may not change (it is not root), or its user namespace does not have the numbers.
    """
    if umask is not None:
        os.umask(umask)
    if who is None or (who.uid, who.gid) == (os.geteuid(), os.getegid()):
        return
    if who.uid != os.getuid():
        privileges.leave_terminal()
    try:
        if who.name is not None:
            os.initgroups(who.name, who.gid)
        elif who.uid != os.getuid():
            os.setgroups([who.gid])  # a number without a name is in no other group, least of all in those of root
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    except PermissionError:
        raise ConfigError(f"options user and group ({who.uid}:{who.gid}): only root may change to them") from None
    except OSError as error:
        raise ConfigError(f"options user and group ({who.uid}:{who.gid}): {error.strerror}") from None
    # A process that changed its uid is not dumpable: gdb, py-spy and /proc/PID/fd of its own would be closed to the operator.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def resident_bytes(pid: int | str = "self") -> int:
    """Resident set size of a process in bytes (proc(5) statm); 0 when it is gone, or no descriptor is free to look."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def memory(pid: int | str = "self") -> tuple[int, int]:
    """Return (private, proportional) resident memory in bytes, of smaps_rollup (proc(5)).

    The first is what only this process has mapped, the second that and its share of all other. It costs about a millisecond
    for 100 MiB. (0, 0) where it cannot be read: the process is gone, or another user's.
    """
    private = proportional = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:
            for line in rollup:
                name, _, rest = line.partition(b":")
                if name in (b"Private_Clean", b"Private_Dirty"):
                    private += int(rest.split()[0]) * 1024
                elif name == b"Pss":
                    proportional = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return 0, 0
    return private, proportional


def describe_end(code: int) -> str:
    """Return `crash:SIGSEGV` or `exit:3` for a code of `reap`."""
    return f"crash:{signals.name(-code)}" if code < 0 else f"exit:{code}"


SIGNALS_OF_THE_PARENT = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
    signal.SIGCHLD,
)
