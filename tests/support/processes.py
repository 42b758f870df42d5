"""What /proc tells of processes: children, descriptors, state; and the subreaper that makes orphans visible. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import signal
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def become_subreaper() -> None:
    """Let orphaned descendants become children of this process, where `children` sees them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


LASTING: set[int] = set()
"""Children that live as long as the session of tests, and are nobody's to judge."""


def children(pid: int | None = None) -> set[int]:
    """Pids of the direct children, zombies included, without those that last."""
    found: set[int] = set()
    for task in pathlib.Path(f"/proc/{pid or os.getpid()}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that ended meanwhile
            found.update(map(int, task.read_text(encoding="ascii").split()))
    return found - LASTING


def state(pid: int) -> str:
    """The state letter of proc(5), or `` when there is no such process."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="latin-1")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


def asleep(pid: int) -> bool:
    """Whether all threads of a process wait for something."""
    stats = [path.read_text(encoding="latin-1") for path in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "S" for stat in stats)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    return state(pid) not in {"", "Z", "X"}


def command(pid: int) -> str:
    """The command line (the process title, where one was set), or ``."""
    with contextlib.suppress(OSError):
        raw = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        return raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return ""


def rss(pid: int) -> int:
    """Resident memory in bytes."""
    pages = pathlib.Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """User and system time used so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int | None = None) -> dict[int, str]:
    """Open descriptors and what they are, as /proc names it (`socket:[123]`, a path)."""
    found = {}
    with contextlib.suppress(OSError):  # a process that ended meanwhile
        for link in pathlib.Path(f"/proc/{pid or os.getpid()}/fd").iterdir():
            with contextlib.suppress(OSError):
                found[int(link.name)] = str(link.readlink())
    return found


def wait_until(condition: Callable[[], T], what: str, deadline: float = 10.0, interval: float = 0.01) -> T:
    """Ask `condition` until its answer is true, and return that answer.

    Raises:
        AssertionError: it was not so within `deadline` seconds; the text names `what`.
    """
    end = time.monotonic() + deadline
    while not (answer := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        time.sleep(interval)
    return answer


def end(pid: int) -> None:
    """Kill a process that a test left behind, and reap it if it is our child."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
