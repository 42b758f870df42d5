"""How many native threads this process may have."""

from __future__ import annotations

import resource
from pathlib import Path

from apid.errors import ConfigError

OURS = 8
"""Threads beside those that run requests."""


def check(size: int) -> None:
    """Raise ConfigError where a pool of this size cannot be had, and name the limit."""
    need = size + OURS
    for most, name in _limits():
        if need > most:
            raise ConfigError(
                f"[http] pool_size = {size}: engine = threads needs {need} threads a worker, and {name} allows {most}"
            )


def _limits() -> list[tuple[int, str]]:
    found = []
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY:
        found.append((soft, "the limit on processes of this user (RLIMIT_NPROC, LimitNPROC= of systemd)"))
    for path in (Path("/proc/sys/kernel/threads-max"), Path("/proc/sys/kernel/pid_max"), _cgroup()):
        if path is not None:
            try:
                found.append((int(path.read_text()), str(path)))
            except (OSError, ValueError):  # "max" in pids.max
                continue
    return found


def _cgroup() -> Path | None:
    """The file pids.max of this process's group (cgroups(7), version 2)."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in lines if line.startswith("0::/")), None)
    return Path("/sys/fs/cgroup") / own.lstrip("/") / "pids.max" if own is not None else None
