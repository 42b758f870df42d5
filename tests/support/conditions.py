"""Conditions under which an engine serves: functions that tests give it as `prepare`."""

from __future__ import annotations

import errno
import itertools
import os
import resource

from apid.server import acceptor, unfinished
from tests.support.processes import descriptors

MOST_UNFINISHED = 20


def few_descriptors() -> None:
    """Set so low a limit that 30 descriptors are free."""
    taken = descriptors()
    limit = next(itertools.islice((fd for fd in itertools.count() if fd not in taken), 30, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def many_descriptors() -> None:
    """Set the highest limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def few_unfinished() -> None:
    """Let only MOST_UNFINISHED connections be half-way to a request."""
    unfinished.MOST = MOST_UNFINISHED


def without_sendfile() -> None:
    """Let sendfile(2) fail from the second megabyte on, as on a file system that has none."""
    sendfile = os.sendfile

    def refuse(out: int, fd: int, offset: int, count: int) -> int:
        if offset >= 1 << 20:
            raise OSError(errno.EINVAL, "no sendfile here")
        return sendfile(out, fd, offset, min(count, (1 << 20) - offset))

    os.sendfile = refuse  # type: ignore[assignment]  # typeshed has more parameters


def first_takes_and_second_leaves(taker: str) -> None:
    """Let the first worker behave as usual, and write its pid to a file; let the second leave connections to its siblings."""
    try:
        with open(taker, "x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        acceptor.STEPS, acceptor.BURST = (30.0,), 1e9
