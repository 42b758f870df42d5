"""How many native threads this process may have."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from apid.errors import ConfigError

OURS = 8
"""Threads beside those that run requests."""

_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def check(size: int, where: str) -> None:
    """Raise ConfigError where a pool of this size cannot be had, and name the lowest limit.

    Args:
        size: threads that run requests.
        where: the beginning of the error.
    """
    need = size + OURS
    most, name = min(_limits(), default=(need, ""))
    if need > most:
        raise ConfigError(
            f"{where}: engine = threads needs {need} threads in a worker ({OURS} of its own), and {name} allows {most}"
        )


def _limits() -> Iterator[tuple[int, str]]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY:
        yield soft, "the limit on processes of this user (RLIMIT_NPROC, LimitNPROC= of systemd)"
    for path in (Path("/proc/sys/kernel/threads-max"), Path("/proc/sys/kernel/pid_max")):
        yield from _limit(path, f"the kernel ({path})")
    for path in _groups():
        yield from _limit(path, f"the control group (TasksMax= of systemd; {path})")


def _limit(path: Path, name: str) -> Iterator[tuple[int, str]]:
    try:
        yield int(path.read_text()), name
    except (OSError, ValueError):  # "max" in pids.max
        return


def _groups() -> Iterator[Path]:
    """The files pids.max of this process's control group and of those around it (cgroups(7), versions 1 and 2)."""
    try:
        lines = _GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "pids"):
            continue
        top = _MOUNT / controllers
        own = top / path.lstrip("/")
        yield from (group / "pids.max" for group in (own, *own.parents) if group.is_relative_to(top))
