"""Where the counters of one machine live: a file found by name, because workers load the pipeline after the fork.

The name says whose it is: the boot, the PID namespace, and the parent process with its start time (so that a reload, whose new
workers have the same parent, finds the counts, and a second daemon does not), and a hash of the ini file's path, the limiter's
name and the layout. Files whose parent is gone are removed by the next that opens one. What stands in the file is sharedtable's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

_PREFIX = "apid-ratelimit"


class StateError(OSError):
    """The directory for the counters cannot be used; the text says which and what to do."""


def default_directory() -> Path:
    """$RUNTIME_DIRECTORY (systemd.exec(5)), else a directory of this user's in /dev/shm, else one in the temporary directory.

    Raises:
        StateError: somebody else made that directory.
    """
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if runtime and os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime)
    shared = Path("/dev/shm")  # noqa: S108 - a directory of our own in it is made and checked below
    base = shared if os.access(shared, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    return _own(base / f"apid-{os.geteuid()}")


def _own(directory: Path) -> Path:
    """Make a directory that only this user can write to, or check that it is one: its parent is everybody's."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise StateError(f"{directory} is not a directory of this user's alone; name another one with state_dir")
    return directory


def _start_time(pid: int) -> str:
    """Field 22 of /proc/PID/stat (proc(5)): with it a PID names one process for ever; empty when there is none to see."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text("latin-1")
    except OSError:
        return ""
    return line.rpartition(")")[2].split()[19]


def _machine() -> str:
    """This boot and PID namespace: in another one the same PID is somebody else."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")[:8]
        return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 - one look-up, no Path needed
    except OSError:
        return "0-0"


def path_of(directory: Path, config_file: str, name: str, layout: str) -> Path:
    """Return the file of a limiter of this process's parent."""
    parent = os.getppid()
    what = hashlib.blake2b(f"{config_file}\0{name}\0{layout}".encode(), digest_size=8).hexdigest()
    return directory / f"{_PREFIX}-{_machine()}-{parent}-{_start_time(parent) or 0}-{what}"


def sweep(directory: Path) -> None:
    """Remove the files of parents that are gone."""
    ours = f"{_PREFIX}-{_machine()}-"
    for file in directory.glob(f"{_PREFIX}-*"):
        if not file.name.startswith(ours):
            continue  # another boot's or namespace's: its processes cannot be seen from here
        pid, _, rest = file.name.removeprefix(ours).partition("-")
        started = rest.partition("-")[0]
        if pid.isdigit() and not _alive(int(pid), started):
            with contextlib.suppress(OSError):  # another worker was faster, or it is not ours to remove
                file.unlink()


def _alive(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    now = _start_time(pid)
    return started in ("0", now) or not now
