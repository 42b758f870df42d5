"""What an application may change for the whole process and a worker cannot do without: noted before it loads, held afterwards.

An application shares the process with its server. What is kept apart from it needs no care (the channel is no green socket, the
hub refuses to be replaced); the rest is looked at every `LOOK` seconds and put back, with one warning for each thing: signal
handlers, mask and wakeup descriptor, the handler that writes stacks, the recursion limit, the switch interval of threads.
A descriptor of the worker's that the application has closed cannot be put back: the worker says so and leaves.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping

from apid.posix import signals

LOG = logging.getLogger("apid.worker")

LOOK = 0.5
"""Seconds between two looks."""

SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)
"""What a worker must hear."""

SPARE = (
    # what a terminal or a `kill` sends to the whole group is the parent's to decide about
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
    # timers of an application that has installed no handler for them
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
)
"""What must not end or stop a worker; an application may have handlers for these."""

STACKS = signal.SIGUSR2
"""The parent asks for this worker's stack with it; faulthandler answers in C, whatever the interpreter is doing."""

RECURSION = 1000
"""Python's own limit; with less, the server's code may fail."""

SWITCH = 0.1
"""Seconds for which a native thread may keep the GIL; the default is 0.005."""


class Shield:
    """Made in a worker before its application loads.

    Attributes:
        bell: the signals; None until `ring`.
    """

    def __init__(self, stacks: int) -> None:
        """Note what there is.

        Args:
            stacks: the descriptor that faulthandler writes to at `STACKS`; -1: none.
        """
        self.bell: signals.SignalSocket | None = None
        self._stacks = stacks
        if stacks >= 0:
            faulthandler.register(STACKS, file=stacks, all_threads=True)
            self._stacks_address = signals.handler_address(STACKS)
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._owned: dict[str, tuple[int, tuple[int, int]]] = {}
        self._warned: set[str] = set()

    def ring(self, *, inline: bool = False) -> signals.SignalSocket:
        """Begin to note signals, and let them through: none ends this process any more, or is lost before it is read."""
        if inline:  # there is no parent to hear the others; its stacks nobody asks for, and the default would end it
            self.bell = signals.SignalSocket((*SIGNALS, signal.SIGHUP, signal.SIGUSR1, STACKS), SPARE[2:])
        else:
            self.bell = signals.SignalSocket(SIGNALS, SPARE)
        signals.unblock_all()
        return self.bell

    def own(self, descriptors: Mapping[str, int]) -> None:
        """Add descriptors, by what they are, that are the worker's until it ends."""
        self._owned |= {what: (fd, _identity(fd)) for what, fd in descriptors.items()}

    def lost(self) -> str:
        """Which of the worker's descriptors other code has closed, in words; empty: none."""
        return ", ".join(f"{what} ({fd})" for what, (fd, before) in self._owned.items() if _identity(fd) != before)

    def hold(self) -> None:
        """Put back what the application has changed."""
        for what in self._changed():
            if what not in self._warned:
                self._warned.add(what)
                LOG.warning("the application has changed %s, which this worker needs: put back", what)

    def _changed(self) -> Iterator[str]:
        if sys.getrecursionlimit() < RECURSION:
            sys.setrecursionlimit(RECURSION)
            yield "the recursion limit"
        if sys.getswitchinterval() > SWITCH:
            sys.setswitchinterval(0.005)
            yield "the switch interval of threads"
        if self.bell is not None:
            yield from self.bell.hold()
        if self._stacks >= 0:
            if signals.handler_address(STACKS) != self._stacks_address:
                faulthandler.unregister(STACKS)  # it believes that its handler is in place
                yield f"the handler of {signals.name(STACKS)}"
            faulthandler.register(STACKS, file=self._stacks, all_threads=True)  # it may write to another file by now

    @contextlib.contextmanager
    def umask(self) -> Iterator[None]:
        """Open files with the umask of the configuration, not with the application's."""
        before = os.umask(self._umask)
        try:
            yield
        finally:
            os.umask(before)


def _identity(fd: int) -> tuple[int, int]:
    """What a descriptor refers to: device and inode; its number alone may be another's by now."""
    try:
        found = os.fstat(fd)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)
