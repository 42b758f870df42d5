"""The stacks of silent workers: asked for by a signal that faulthandler answers in C, read from a memfd, logged as one block.

The worker registers STACKS with faulthandler and a memfd that the parent made before the fork. The handler runs at C level even
while the interpreter is stuck in a C call, a tight loop or a lock, and a memfd never blocks the writer. Its size is fixed, so a
worker can neither fill memory nor cut it off; both processes share one file offset, which the parent sets back before it asks.
"""

from __future__ import annotations

import os
import signal

from apid.posix import memfd

STACKS = signal.SIGUSR2
"""The signal that makes a worker write its stack (see apid.worker.shield)."""

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
