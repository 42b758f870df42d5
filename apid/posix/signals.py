"""Signals as bytes on a descriptor, and as something to block around a fork.

A handler here does nothing: `signal.set_wakeup_fd` writes the signal's number into a pipe, and the loop that owns the
other end reads it as one input among others (the self-pipe of D. J. Bernstein; signal-safety(7) leaves little else).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

CAPACITY = 1024 * 1024
"""Octets that the pipe holds, one a signal. A socket pair holds fewer than 300, each in a buffer of its own:
a storm of one signal would hide the next one."""

STACKS = signal.SIGUSR2
"""Requests the stacks of a worker. The interpreter writes them, so one that is stuck in a C call does not."""

LAST_STACKS = signal.SIGRTMIN
"""As STACKS, of a worker that is about to be killed: faulthandler writes them, whatever the interpreter is doing, and may end the
process by that."""

_read, _close = os.read, os.close  # before eventlet replaces them: a green read waits where this one must not


def _ring(_signum: int, _frame: object) -> None:
    """Do nothing: the byte is already on its way."""


_LIBC = ctypes.CDLL(None, use_errno=True)


class _SigAction(ctypes.Structure):
    """`struct sigaction` as glibc and musl have it on Linux (sigaction(2); 1024 bits of mask)."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def _action(signum: int) -> _SigAction:
    """Return the disposition of a signal as the kernel has it."""
    action = _SigAction()
    _LIBC.sigaction(signum, None, ctypes.byref(action))
    return action


def handler_address(signum: int) -> int:
    """Return the address of the C function that handles a signal; 0 (SIG_DFL) and 1 (SIG_IGN) are none."""
    return _action(signum).handler or 0


def _one_at_a_time(signum: int) -> None:
    """Block all other signals while this one's handler runs.

    Python installs handlers with an empty mask and SA_ONSTACK: signals that arrive together nest on the alternate stack of
    faulthandler (enabled in workers, and by PYTHONFAULTHANDLER), which has room for about four frames of a CPU with wide
    registers; the fifth overwrites the heap.
    """
    action = _action(signum)
    ctypes.memset(action.mask, 0xFF, ctypes.sizeof(action.mask))
    _LIBC.sigaction(signum, ctypes.byref(action), None)


def install(signum: int, handler: Callable[[int, Any], object]) -> None:
    """Have Python call a handler, in the main thread."""
    signal.signal(signum, handler)
    _one_at_a_time(signum)


class SignalPipe:
    """Delivers the named signals to `fileno()` until `close`.

    Only one can be at work in a process, and only its main thread can make it (signal(3), Python's rule).
    """

    def __init__(self, signums: Iterable[int], spare: Iterable[int] = ()) -> None:
        """Begin to deliver.

        Args:
            signums: the signals; `hold` keeps them.
            spare: further signals that are delivered unless other code has a handler for them.
        """
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # the user has many pipes: the default is 64 KiB (pipe(7))
            fcntl.fcntl(self._write, fcntl.F_SETPIPE_SZ, CAPACITY)
        self._signums = tuple(signums)
        self._spare = tuple(spare)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for signum in self._signums:
            self._install(signum)
        for signum in self._spare:
            if signal.getsignal(signum) is _ring or not callable(signal.getsignal(signum)):
                self._install(signum)
        self._address = handler_address(self._signums[0])

    @staticmethod
    def _install(signum: int) -> None:
        install(signum, _ring)

    def hold(self) -> list[str]:
        """Restore what other code of this process has changed; return descriptions of it, empty when nothing has changed.

        This covers handlers, the signal mask of the main thread and the wakeup descriptor: with any of them changed, a signal is
        lost or ends the process.
        """
        taken = [s for s in self._signums if signal.getsignal(s) is not _ring or handler_address(s) != self._address]
        fallen = [s for s in self._spare if signal.getsignal(s) is signal.SIG_DFL or not handler_address(s)]
        for signum in (*taken, *fallen):
            self._install(signum)
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, (*self._signums, *self._spare)) & set(self._signums)
        found = [f"the handler of {name(signum)}" for signum in taken]
        found += [f"the mask of {name(signum)}" for signum in sorted(blocked)]
        if signal.set_wakeup_fd(self._write, warn_on_full_buffer=False) != self._write:
            found.append("the wakeup descriptor of signals")
        return found

    def handles(self, signum: int) -> bool:
        """Return whether the handler is the one installed here: other code may have one for a spare signal."""
        return signal.getsignal(signum) is _ring

    def forget(self) -> None:
        """In a forked child: close the pipe and restore the default handlers, except where other code has its own."""
        forget_inherited(s for s in (*self._signums, *self._spare) if signal.getsignal(s) is _ring)
        _close(self._read)
        _close(self._write)

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self._read

    def descriptors(self) -> dict[str, int]:
        """Both descriptors, by description."""
        return {"its signals": self._read, "the other end of its signals": self._write}

    def read(self) -> list[int]:
        """Signals that have arrived since the last call, in order; empty when none has. A flood of them takes several calls."""
        with contextlib.suppress(BlockingIOError):
            return list(_read(self._read, 65536))
        return []

    def close(self) -> None:
        """Stop delivering; the handlers go back to the system's defaults."""
        signal.set_wakeup_fd(-1)
        for signum in (*self._signums, *self._spare):
            signal.signal(signum, signal.SIG_DFL)
        _close(self._read)
        _close(self._write)


def forget_inherited(signums: Iterable[int]) -> None:
    """In a fresh child: give up the parent's wakeup descriptor and handlers.

    Without this a child's early signals would be written into the parent's pipe. Call it while they are still blocked.
    """
    signal.set_wakeup_fd(-1)
    for signum in signums:
        signal.signal(signum, signal.SIG_DFL)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Block all signals for the time of a fork, so that none is delivered between the fork and the child's new handlers."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def block_all() -> None:
    """Block every signal that can be blocked: across an exec they wait instead of killing the new image."""
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())


def unblock_all() -> None:
    """Let every signal through."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def name(signum: int) -> str:
    """Return `SIGTERM` for 15, and the number itself for one without a name (a real-time signal)."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"
