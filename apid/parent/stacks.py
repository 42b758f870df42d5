"""The stacks of silent workers: asked for by a signal (posix.signals), read from a memfd, logged as one block.

The parent makes the memfd before the fork; the worker writes there (worker.shield says how). A memfd never blocks the writer. Its
size is fixed, so a worker can neither fill memory nor cut it off; both processes share one file offset, which the parent sets
back before it asks.
"""

from __future__ import annotations

import os

from apid.posix import memfd

ROOM = 64 * 1024
"""Bytes for the stacks of one worker; what does not fit is not written."""


class Stacks:
    """The memfds of all workers."""

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}

    @staticmethod
    def new() -> int:
        """Make a memfd for a worker that is about to be forked."""
        return memfd.create("apid-stacks", ROOM)

    def add(self, pid: int, fd: int) -> None:
        """Note whose it is."""
        self._fds[pid] = fd

    def ask(self, pid: int) -> None:
        """Forget what the worker has written, and have it write: the caller sends the signal."""
        fd = self._fds.get(pid)
        if fd is not None:
            os.lseek(fd, 0, os.SEEK_SET)

    def take(self, pid: int) -> str:
        """Return what the worker has written since it was asked."""
        fd = self._fds.get(pid)
        if fd is None:
            return ""
        # The worker can move the offset, but no further than pread allows.
        size = min(os.lseek(fd, 0, os.SEEK_CUR), ROOM)
        return os.pread(fd, size, 0).decode("utf-8", "replace")

    def remove(self, pid: int) -> None:
        """The worker is gone."""
        fd = self._fds.pop(pid, None)
        if fd is not None:
            os.close(fd)

    def items(self) -> dict[int, int]:
        """Pid to descriptor, for an upgrade and for what a child closes."""
        return dict(self._fds)
