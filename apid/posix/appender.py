"""Whole records appended to a file, FIFO, pipe, terminal or socket, without ever waiting long. What they say is the caller's.

Theory of operation. Records to a regular file are one write(2) with O_APPEND, so that those of several processes never mix.
Elsewhere a write of at most PIPE_BUF octets is atomic (pipe(7)): records are written in pieces of that size, and only a longer
one can be split by another process. What cannot be written is lost and counted: a full disk, a reader that has stopped or gone.
A record that was cut in its middle gets a newline before the next one. The process that cuts it may be another one than the
process that writes next: all that were forked from one share a mark, and look at the file's last octet when it has changed. (To
look each time would find the records that others are writing at the moment half done; where it has to look, LOOKS in a row must
find no newline.) A process that writes in the microseconds between the cut and the mark appends its record to the torn one.

Nothing blocks for long. A path is opened by apid.posix.logfile (with O_RDWR a FIFO opens without a reader, fifo(7)). The
standard streams share their open file description with other programs, whose O_NONBLOCK is not ours to set: a pipe or terminal
is opened a second time, and where that is refused (another user's pipe, a socket) poll(2) is asked before each write.

Any native thread may append; the lock is native and never held while a green thread switches. posix.write is called instead of
os.write because eventlet replaces the latter by one that switches.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import posix
import select
import stat
import time
import weakref
from _thread import RLock
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from apid.posix import logfile

if TYPE_CHECKING:  # the wrappers load nothing but the standard library
    from apid.conf.identity import User

PIPE_BUF = select.PIPE_BUF

MOST = 0.2
"""Seconds that a writer waits at once for a reader that is behind."""

SHARE = 0.02
"""Part of all time that it waits: behind a reader that is always too slow lines are lost instead."""

LOOKS = 20
"""Looks at the end of a file, 1 ms apart, of which one that finds a newline is enough: another process may be writing."""

_poll = getattr(select, "poll", None)  # eventlet takes it away: where it patched first, nobody waits
_mark = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
"""When a record was cut last; shared by this process and its forks."""


class Patience:
    """The time that one writer may spend waiting: MOST seconds at once, SHARE of all time."""

    def __init__(self) -> None:
        self._left = MOST
        self._at = time.monotonic()

    def wait(self, pause: Callable[[float], bool]) -> bool:
        """Wait by `pause`, which takes seconds; returns its answer, or False when the time is spent."""
        now = time.monotonic()
        left = min(MOST, self._left + (now - self._at) * SHARE)
        answer = left > 0.001 and pause(left)
        self._at = time.monotonic()
        self._left = left - (self._at - now)
        return answer


class Appender:
    """The writing end of a log.

    Attributes:
        target: a path, or the number of a standard stream.
        lost: records lost since the last notice that was written; reason: why the last one was.
    """

    def __init__(self, target: str | int, mode: int = 0o640, user: User | None = None) -> None:
        """Open the target.

        Args:
            target: a path, or 1 or 2. A closed standard stream is no error: it takes nothing.
            mode: of a file that is made.
            user: the workers' user, who must be able to reopen it.

        Raises:
            OSError: the path cannot be opened; see apid.posix.logfile.
        """
        self.target = target
        self.lost = 0
        self.reason = ""
        self._mode = mode
        self._user = user
        self._mutex = RLock()
        self._patience = Patience()
        self._torn = False
        self._seen = -1  # whatever was noted before, the first record looks at what is there
        self._regular = self._readable = self._blocking = False
        self._fd = -1
        self._identity = (0, 0)
        try:
            self._fd = self._open()
        except OSError:
            if isinstance(target, str):
                raise
        _appenders.add(self)

    def append(self, records: Sequence[bytes], notice: Callable[[int, str], bytes] | None = None) -> int:
        """Write records, each of which ends with a newline; returns how many of them are lost.

        Args:
            records: in their order; once one is lost, those behind it are.
            notice: makes a record that tells of `lost` and `reason`; it is written in front of the others when some were lost.
        """
        with self._mutex:
            if not self._is_mine():
                self._fd = -1  # the write opens it again
            told = [notice(self.lost, self.reason)] if self.lost and notice else []
            written = self._write([*told, *records]) - len(told)
            if told and written >= 0:
                self.lost = 0
            lost = len(records) - max(0, written)
            self.lost += lost
            return lost

    def reopen(self) -> None:
        """Open the path again and put it under the same number: at every moment a write finds one of the two files.

        Raises:
            OSError: it cannot be opened; the old one stays.
        """
        with self._mutex:
            if isinstance(self.target, int):
                return
            mine = self._is_mine()
            fresh = self._open()
            self._torn = False
            self._seen = -1
            if not mine:
                self._fd = fresh
                return
            try:
                os.dup2(fresh, self._fd, inheritable=False)
            finally:
                os.close(fresh)

    def close(self) -> None:
        """Close the descriptor; the next record opens it again."""
        with self._mutex:
            mine, fd, self._fd = self._is_mine(), self._fd, -1
            if mine:
                os.close(fd)

    @property
    def closed(self) -> bool:
        """Whether there is no descriptor, or it was closed by other code; the next record opens the target again."""
        return not self._is_mine()

    def _is_mine(self) -> bool:
        """Whether the descriptor is open and still what was opened: other code may have closed it and got its number again."""
        if self._fd < 0:
            return False
        try:
            found = os.fstat(self._fd)
        except Exception as error:  # noqa: BLE001 - only EBADF says that it is closed
            return getattr(error, "errno", None) != errno.EBADF
        return (found.st_dev, found.st_ino) == self._identity

    def free(self) -> None:
        """Make the lock again: in a forked child, where its holder is not, and after monkey_patch, which has made it green."""
        self._mutex = RLock()

    def _open(self) -> int:
        if isinstance(self.target, int):
            fd = self._share(self.target)
        else:
            fd = logfile.open_to_append(self.target, self._mode, self._user)
        try:
            found = os.fstat(fd)
            way = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        except BaseException:
            os.close(fd)
            raise
        # now that nothing can fail: until here the old descriptor is the one in use
        self._identity, self._regular = (found.st_dev, found.st_ino), stat.S_ISREG(found.st_mode)
        self._readable = isinstance(self.target, str) and way == os.O_RDWR
        return fd

    def _share(self, fd: int) -> int:
        kind = os.fstat(fd).st_mode
        self._blocking = not stat.S_ISREG(kind)
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            with contextlib.suppress(OSError):
                again = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
                self._blocking = False
                return again
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)

    def _write(self, records: Sequence[bytes]) -> int:
        """Write records; returns the number of those that are written whole."""
        whole = 0
        for piece in [records] if self._regular else _pieces(records):
            mark = _mark[0]
            begin = b"\n" if self._cut(mark) else b""
            data = begin + b"".join(piece)
            sent = self._put(data)
            if sent:
                self._seen = mark
                self._torn = data[sent - 1] != 10
                if self._torn:
                    _mark[0] = time.monotonic_ns()
            ends = itertools.accumulate((len(record) for record in piece), initial=len(begin))
            whole += sum(end <= sent for end in ends) - (sent >= len(begin))
            if sent < len(data):
                break
        return whole

    def _cut(self, mark: int) -> bool:
        """Whether what was written last, by this process or another, is no whole record."""
        if not (self._regular and self._readable):
            return self._torn
        if mark == self._seen:
            return False
        for _ in range(LOOKS):
            try:
                size = os.fstat(self._fd).st_size
                if size == 0 or os.pread(self._fd, 1, size - 1) in (b"\n", b""):
                    return False
            except OSError:
                return False
            if not self._patience.wait(_moment):
                break  # it has looked long enough of late: a full disk is asked again and again
        return True

    def _put(self, data: bytes) -> int:
        """Write octets; returns how many were written, and sets `reason` unless all were."""
        sent = 0
        try:
            if self._fd < 0:
                self._fd = self._open()
            while sent < len(data):  # once, unless a disk or a pipe is full
                try:
                    sent += self._put_some(data[sent:])
                except BlockingIOError:
                    if not self._patience.wait(self._writable):
                        raise
        except OSError as error:
            self.reason = "nobody read it" if error.errno == errno.EAGAIN else error.strerror or str(error)
        return sent

    def _put_some(self, data: bytes) -> int:
        if not self._blocking:
            return posix.write(self._fd, data)
        if not self._writable(0):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return posix.write(self._fd, data[:PIPE_BUF])  # a longer one would wait in its middle

    def _writable(self, seconds: float) -> bool:
        if _poll is None:
            return seconds == 0
        poll = _poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))


def _moment(_: float) -> bool:
    """Wait for a millisecond; False where that cannot be done natively."""
    if _poll is None:
        return False
    _poll().poll(1)
    return True


def _pieces(records: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yield the records in groups of at most PIPE_BUF octets; one that is longer stands alone."""
    piece: list[bytes] = []
    size = 0
    for record in records:
        if piece and size + len(record) > PIPE_BUF:
            yield piece
            piece, size = [], 0
        piece.append(record)
        size += len(record)
    if piece:
        yield piece


_appenders: weakref.WeakSet[Appender] = weakref.WeakSet()


def _free_all() -> None:
    for each in _appenders:
        each.free()
        each.lost = 0  # the parent tells


os.register_at_fork(after_in_child=_free_all)
