"""The stacks of silent workers: asked for by a signal that faulthandler answers in C, read from a memfd, logged as one block.

The worker registers STACKS with faulthandler and a memfd that the parent made before the fork. The handler runs at C level even
while the interpreter is stuck in a C call, a tight loop or a lock, and a memfd never blocks the writer.
"""

from __future__ import annotations

import os
import signal

STACKS = signal.SIGUSR2
"""The signal that makes a worker write its stack (see apid.worker.shield)."""


class Stacks:
    """The memfds of all workers, and who was asked."""

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}
        self._read: dict[int, int] = {}

    @staticmethod
    def new() -> int:
        """Make a memfd for a worker that is about to be forked."""
        return os.memfd_create("apid-stacks", os.MFD_CLOEXEC)

    def add(self, pid: int, fd: int, read: int = 0) -> None:
        """Note whose it is, and how many bytes of it are known already."""
        self._fds[pid], self._read[pid] = fd, read

    def take(self, pid: int) -> str:
        """Return what the worker has written since the last call."""
        fd = self._fds.get(pid)
        if fd is None:
            return ""
        start = self._read[pid]
        data = os.pread(fd, 64 * 1024, start)
        self._read[pid] = start + len(data)
        return data.decode("utf-8", "replace")

    def remove(self, pid: int) -> None:
        """The worker is gone."""
        fd = self._fds.pop(pid, None)
        self._read.pop(pid, None)
        if fd is not None:
            os.close(fd)

    def items(self) -> dict[int, int]:
        """Pid to descriptor, for an upgrade and for what a child closes."""
        return dict(self._fds)
