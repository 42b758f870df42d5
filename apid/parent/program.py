"""The installed program: how it is tried in a child, and how this process becomes it. Facts of exec; no policy.

The argument vector is the one that this process was started with (`sys.orig_argv`), and its paths are resolved again each time:
a virtualenv that was replaced, or a symbolic link that was switched, is what counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence

from apid.bounds import clean
from apid.posix import memfd

STATE_VERSION = 4
"""Of the document that an upgrade hands over; the new program is asked beforehand whether it reads it."""

OUTPUT = 4 * 1024 * 1024
"""Bytes of the standard error of a tried program; what its application writes past that is not kept."""

ROOM = 16
"""Descriptors that must be free in a program that takes over: the loader, imports and its own loop need them."""

ASKED_VERSION = "APID_PREFLIGHT_STATE"
"""Environment: set for a preflight, holds STATE_VERSION of the running program."""

ASKED_BY = "APID_PREFLIGHT_PARENT"
"""Environment: set for a preflight, holds the pid of the running program; a preflight for one that is gone is pointless."""

STATE_FD = "APID_STATE_FD"
"""Environment: the descriptor with the state, for the program that takes over."""


def command_line() -> list[str]:
    """Return the argument vector of this process with an absolute program, unresolved: symbolic links stay what they are."""
    first, *rest = sys.orig_argv
    if os.sep not in first:
        first = shutil.which(first) or first
    script = _script(rest)
    if script is not None:
        rest[script] = os.path.abspath(rest[script])
    return [os.path.abspath(first), *rest]


def _script(rest: Sequence[str]) -> int | None:
    """Return where the program's own file stands among the interpreter's arguments; None for -c and -m (python(1))."""
    at = 0
    while at < len(rest) and rest[at].startswith("-"):
        if rest[at] in ("-W", "-X", "--check-hash-based-pycs"):
            at += 1  # its value is the next argument
        elif not rest[at].startswith(("--", "-W", "-X")) and set(rest[at]) & {"c", "m"}:
            return None
        at += 1
    return at if at < len(rest) else None


@dataclasses.dataclass(slots=True)
class Trial:
    """A preflight under way: the installed program checks its configuration and whether it could take over."""

    pid: int
    fd: int

    @classmethod
    def start(cls, argv: Sequence[str], directory: str = "") -> Trial:
        """Start it in `directory`, or in the working directory where there is none; raises OSError when the program is gone."""
        fd = memfd.create("apid-preflight", OUTPUT)
        try:
            process = subprocess.Popen(  # noqa: S603 - the command that started this daemon, and no shell
                [*argv, "--check-config"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=fd,
                cwd=directory if os.path.isdir(directory) else None,  # noqa: PTH112 - Path.is_dir raises where it may not look
                env={**os.environ, ASKED_VERSION: str(STATE_VERSION), ASKED_BY: str(os.getpid())},
                start_new_session=True,
                restore_signals=True,
            )
        except BaseException:
            os.close(fd)
            raise
        pid = process.pid
        # The loop reaps all children; a Popen that found its child gone would only warn.
        process.returncode = 0
        return cls(pid, fd)

    def output(self) -> str:
        """What it wrote to its standard error (the last 16 KiB), without control characters; the descriptor is closed."""
        try:
            size = min(OUTPUT, os.lseek(self.fd, 0, os.SEEK_CUR))  # they share the offset
            start = max(0, size - 16384)
            return clean(os.pread(self.fd, size - start, start).decode("utf-8", "replace"), lines=True)
        finally:
            os.close(self.fd)


def become(argv: Sequence[str], state_fd: int, keep: Sequence[int], directory: str = "") -> Exception:
    """Exec the program in `directory` with `keep` and `state_fd` inherited; returns only when that failed, with the reason.

    Signals must be blocked by the caller: they stay blocked, and pending, until the new image unblocks them.
    """
    descriptors = [state_fd, *keep]
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - len(descriptors) - 3
    if room < ROOM:
        return OSError(errno.EMFILE, f"{os.strerror(errno.EMFILE)}: it needs {ROOM} descriptors to begin with")
    with contextlib.suppress(OSError):  # it may have been removed; then only absolute paths have a meaning
        os.chdir(directory or ".")
    try:
        for fd in descriptors:
            os.set_inheritable(fd, True)
        # Ignored signals are inherited over an exec and handled ones are reset; nothing else needs care (execve(2)).
        os.execve(argv[0], list(argv), {**os.environ, STATE_FD: str(state_fd)})  # noqa: S606 - becoming a program is its point
    except Exception as error:  # noqa: BLE001 - whatever it is, this image goes on
        for fd in descriptors:
            os.set_inheritable(fd, False)
        return error
    raise AssertionError("execve returned")
