"""Process-wide state that a worker needs: recorded before the application loads, restored when the application changes it.

An application shares the process with its server. Some state is out of its reach (the channel is no green socket, eventlet's
hub cannot be replaced). The rest is checked every `LOOK` seconds and restored, with one warning for each thing: signal
handlers, signal mask and wakeup descriptor, the handler that writes stacks, the recursion limit, the switch interval of
threads. A closed descriptor cannot be restored: the worker logs it and leaves.

Stacks are written where the parent can read them. faulthandler can do so in C whatever the interpreter is doing, but it reads
frames that another thread, or the interrupted code, is just changing: of busy workers that were asked 119 times, five ended with
SIGSEGV. So the handler of STACKS is Python's. It runs in the main thread, between two instructions or where a system call or a
lock is waited for; only a C call that holds the interpreter's lock keeps it from that. It interrupts system calls of C code
(EINTR), as any signal does that Python handles. LAST_STACKS, which comes to workers that are about to be killed, is
faulthandler's.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

from apid.loggers import logger
from apid.posix import signals

LOG = logger("apid.worker")

_os_write = os.write  # before eventlet replaces it

LOOK = 0.5
"""Seconds between two checks."""

SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)
"""Signals whose handlers belong to the worker."""

TIMERS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO)
"""Signals of timers and descriptors that the application may start without a handler."""

# a terminal, or `kill` with a process group, sends the first five to all processes; the parent acts on them
SPARE = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, *TIMERS)
"""Signals that must not end or stop a worker; the application may have handlers for them."""

OF_STACKS = (signals.STACKS, signals.LAST_STACKS)
"""Signals that request stacks."""

RECURSION = 1000
"""Python's default; with less, the server's own code may fail."""

SWITCH = 0.1
"""Seconds for which a native thread may keep the GIL; the default is 0.005."""


class Shield:
    """The recorded state; made before the application loads.

    Attributes:
        bell: the signals; None until `ring`.
    """

    def __init__(self, fd: int, stacks: Callable[[], list[str]]) -> None:
        """Record the state.

        Args:
            fd: the descriptor that stacks are written to; -1: none.
            stacks: returns them.
        """
        self.bell: signals.SignalPipe | None = None
        self._fd = fd
        self._stacks = stacks
        self._addresses: dict[int, int] = {}
        if fd >= 0:
            self._register()
            self._addresses = {signum: signals.handler_address(signum) for signum in OF_STACKS}
        self._umask = os.umask(0o022)  # what the configuration says; the application may change it
        os.umask(self._umask)
        self._owned: dict[str, tuple[int, tuple[int, int]]] = {}
        self._warned: set[str] = set()

    def renew(self, fd: int) -> None:
        """In a worker that a mold has forked: `fd` is for its stacks, and its signals come to itself. `own` comes afterwards."""
        bell, self.bell = self.bell, None
        if bell is not None:
            bell.forget()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._owned = {}
        self._register()
        self._addresses = {signum: signals.handler_address(signum) for signum in OF_STACKS}
        self.ring()

    def ring(self, *, inline: bool = False) -> signals.SignalPipe:
        """Collect signals from now on: once unblocked, none ends this process, and none is lost before it is read."""
        if inline:  # no parent acts on the others, and no parent requests stacks
            mine = (*SIGNALS, signal.SIGHUP, signal.SIGUSR1, signals.STACKS)
            self.bell = signals.SignalPipe(mine, [one for one in SPARE if one not in mine])
        else:
            self.bell = signals.SignalPipe(SIGNALS, SPARE)
        self.own(self.bell.descriptors())
        return self.bell

    def own(self, descriptors: Mapping[str, int]) -> None:
        """Add descriptors, by description, that must stay open until the worker ends."""
        self._owned |= {what: (fd, _identity(fd)) for what, fd in descriptors.items()}

    def disown(self, descriptors: Iterable[int]) -> None:
        """Remove descriptors that the worker itself is about to close."""
        gone = set(descriptors)
        self._owned = {what: owned for what, owned in self._owned.items() if owned[0] not in gone}

    def lost(self) -> str:
        """Return the descriptors that other code has closed, as text; empty when there are none."""
        return ", ".join(f"{what} ({fd})" for what, (fd, before) in self._owned.items() if _identity(fd) != before)

    def hold(self) -> None:
        """Restore what the application has changed."""
        for what in self._changed():
            if what not in self._warned:
                self._warned.add(what)
                LOG.warning("the application changed %s: restored, because the worker needs it", what)

    def _changed(self) -> Iterator[str]:
        if sys.getrecursionlimit() < RECURSION:
            sys.setrecursionlimit(RECURSION)
            yield "the recursion limit"
        if sys.getswitchinterval() > SWITCH:
            sys.setswitchinterval(0.005)
            yield "the switch interval of threads"
        if self.bell is not None:
            yield from self.bell.hold()
        for signum, address in self._addresses.items():
            if signals.handler_address(signum) != address or (
                signum == signals.STACKS and signal.getsignal(signum) != self._write_stacks
            ):
                faulthandler.unregister(signum)  # it assumes that its handler is installed
                yield f"the handler of {signals.name(signum)}"
        if self._addresses:
            self._register()  # with the same file: the application may have set another

    def _register(self) -> None:
        faulthandler.register(signals.LAST_STACKS, file=self._fd, all_threads=True)
        signals.install(signals.STACKS, self._write_stacks)

    def _write_stacks(self, *_: object) -> None:
        """Write the stacks; what cannot be written must not harm the code that was interrupted."""
        with contextlib.suppress(BaseException):
            data = "\n".join(self._stacks()).encode("utf-8", "backslashreplace")
            _os_write(self._fd, data[: os.fstat(self._fd).st_size])

    @contextlib.contextmanager
    def umask(self) -> Iterator[None]:
        """Apply the umask of the configuration instead of the application's."""
        before = os.umask(self._umask)
        try:
            yield
        finally:
            os.umask(before)


def _identity(fd: int) -> tuple[int, int]:
    """Return device and inode of a descriptor: a closed number may have been reused."""
    try:
        found = os.fstat(fd)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)
