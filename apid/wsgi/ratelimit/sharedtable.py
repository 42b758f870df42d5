"""Exact counts for any number of processes on one machine, in a mapped file; no server.

Theory of operation. A bucket is 16 bytes of key (a keyed hash of limit and user) and 8 of state: the time, in nanoseconds of
CLOCK_BOOTTIME, at which all of it will have leaked. A time in the past means empty, so an idle bucket is no information and may
be taken over by anybody: memory is bounded and nothing has to be cleaned. (This is the leaky bucket written as GCRA.)

The table is STRIPES stripes of sets of WAYS buckets; the user says which stripe, limit and user say which set. All buckets that a
request charges lie in one stripe, under one lock: a byte of the file, locked with F_OFD_SETLK (fcntl(2)), so that the kernel
releases it when the holder dies. It is held for some microseconds; a holder that was stopped meanwhile is waited for LOCK_TIMEOUT
at most, then StorageError says so.

A holder killed with SIGKILL at any point leaves a usable table: the state is one aligned 8-byte store, and a key is written only
over a bucket that has been emptied before. When no bucket of a set is idle, the one that would be idle first is overwritten
(`dropped` counts them); a larger table is the cure.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import mmap
import os
import stat
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from apid.wsgi.ratelimit.charge import Charge, StorageError
from apid.wsgi.ratelimit.limit import Limit

log = logging.getLogger(__name__)

STRIPES = 64
WAYS = 16
LAYOUT = 1
LOCK_TIMEOUT = 2.0
"""Seconds. A holder needs microseconds, but on a crowded machine it may wait for a processor with the lock in its hand: eight
processes that did nothing but count, on two busy processors, waited 0.9 s at worst."""

_MAGIC = b"apidrl01"
_HEAD = mmap.PAGESIZE
_KEY = 16
_KEYS = WAYS * _KEY
_SET = _KEYS + WAYS * 8
_SPINS = 20
_INIT_BYTE = STRIPES
_RETIRED_CHECK_NS = 10**9
_SAY_EVERY_NS = 60 * 10**9


def geometry(buckets: int) -> tuple[int, str]:
    """Return (sets a stripe, name of the layout) of a table with at least so many buckets."""
    sets = 1
    while sets * WAYS * STRIPES < buckets:
        sets *= 2
    return sets, f"{LAYOUT}/{STRIPES}/{WAYS}/{sets}"


def _lock_request(kind: int, byte: int) -> bytes:
    # struct flock: l_type, l_whence, l_start, l_len, l_pid; l_pid must be 0 for an OFD lock
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0)


_LOCK = [_lock_request(fcntl.F_WRLCK, byte) for byte in range(STRIPES + 1)]
_UNLOCK = [_lock_request(fcntl.F_UNLCK, byte) for byte in range(STRIPES + 1)]


class SharedTable:
    """The table in one file, as seen from one process.

    Args:
        path: of the file; it is made when there is none.
        sets: per stripe, a power of two; must be the same in every process.

    Attributes:
        dropped: live buckets that this process had to overwrite.

    Raises:
        OSError: the file cannot be made, or there is no room for it.
        StorageError: somebody holds the lock on its making.
    """

    def __init__(self, path: Path, sets: int) -> None:
        self.dropped = 0
        self._say_again = 0
        self._path = path
        self._sets = sets
        self._threads = threading.Lock()  # an OFD lock is the file description's: threads share it
        self._map: mmap.mmap | None = None
        self._open()

    def charge(self, user: bytes, limits: Sequence[Limit]) -> list[Charge]:
        """Charge a hit to each of some limits for a user; one that is refused is not charged.

        Raises:
            StorageError: the lock could not be had in LOCK_TIMEOUT.
        """
        return self._visit(user, limits, spend=True)

    def peek(self, user: bytes, limits: Sequence[Limit]) -> list[Charge]:
        """What a hit would meet, without making one. Raises as `charge`."""
        return self._visit(user, limits, spend=False)

    def close(self) -> None:
        """Let go of the file; it stays for the other processes."""
        if self._map is not None:
            self._cells.release()
            self._map.close()
            self._map = None
            os.close(self._fd)

    def _visit(self, user: bytes, limits: Sequence[Limit], *, spend: bool) -> list[Charge]:
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if os.getpid() != self._pid or now > self._look_again:
            self._stay_valid(now)
        # the first four bytes say the stripe, of the user alone
        hashed = hashlib.blake2b(user, digest_size=4, key=self._salt).digest()
        stripe = hashed[0] % STRIPES
        digests = [
            hashlib.blake2b(limit.identity + b"\0" + user, digest_size=_KEY, key=self._salt).digest()
            for limit in limits
        ]
        with self._threads:
            self._lock(stripe)
            try:
                # read the clock again: others may have charged while we waited, and time must not go back in a bucket
                now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                return [
                    self._one(stripe, digest, limit, now, spend=spend)
                    for digest, limit in zip(digests, limits, strict=True)
                ]
            finally:
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _UNLOCK[stripe])

    def _one(self, stripe: int, digest: bytes, limit: Limit, now: int, *, spend: bool) -> Charge:
        assert self._map is not None  # noqa: S101 - closed tables are not charged
        number = stripe * self._sets + int.from_bytes(digest[:4], "little") % self._sets
        start = _HEAD + number * _SET
        keys = self._map[start : start + _KEYS]
        first = (start + _KEYS) // 8
        way = _way_of(keys, digest)
        full_until = self._cells[first + way] if way >= 0 else 0
        # after a reboot's or a bug's nonsense a bucket is at most full
        level = min(max(full_until - now, 0), limit.capacity)
        surplus = level + limit.cost - limit.capacity
        if surplus > 0:
            return Charge(limit, surplus / 1e9, limit.remaining(level), level / 1e9)
        if spend:
            level += limit.cost
            if way < 0:
                way = self._take(start, first, digest, now)
            self._cells[first + way] = now + level
        return Charge(limit, 0.0, limit.remaining(level), level / 1e9)

    def _take(self, start: int, first: int, digest: bytes, now: int) -> int:
        assert self._map is not None  # noqa: S101 - closed tables are not charged
        times = self._cells[first : first + WAYS].tolist()
        soonest = min(times)
        way = times.index(soonest)
        if soonest > now:
            self.dropped += 1
            self._say_dropped(now)
            self._cells[first + way] = 0  # first empty, then renamed: a kill in between charges nobody
        self._map[start + way * _KEY : start + (way + 1) * _KEY] = digest
        return way

    def _say_dropped(self, now: int) -> None:
        if now > self._say_again:
            self._say_again = now + _SAY_EVERY_NS
            log.warning("%s is full: %d counts in use were given up so far; raise `buckets`", self._path, self.dropped)

    def _lock(self, byte: int) -> None:
        deadline = 0.0
        tries = 0
        while True:
            try:
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _LOCK[byte])
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise StorageError(f"{self._path}: {error.strerror}") from error
            else:
                return
            tries += 1
            if tries <= _SPINS:
                os.sched_yield()
                continue
            deadline = deadline or time.monotonic() + LOCK_TIMEOUT
            if time.monotonic() > deadline:
                raise StorageError(f"{self._path}: a process holds its lock for more than {LOCK_TIMEOUT} s")
            time.sleep(0.0005)  # where sleep is green, other requests run meanwhile

    def _stay_valid(self, now: int) -> None:
        """After a fork the description, and so its locks, would be shared; and somebody may have removed the file."""
        if os.getpid() != self._pid or os.fstat(self._fd).st_nlink == 0:
            self.close()
            self._open()
        self._look_again = now + _RETIRED_CHECK_NS

    def _open(self) -> None:
        size = _HEAD + STRIPES * self._sets * _SET
        self._pid = os.getpid()
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._refuse_others()
            self._lock(_INIT_BYTE)
            try:
                fresh = os.pread(self._fd, len(_MAGIC), 0) != _MAGIC
                if fresh:  # nobody has it mapped yet, as nobody has got past this lock with it
                    os.ftruncate(self._fd, 0)
                    os.posix_fallocate(self._fd, 0, size)  # no room must be an error here, not a SIGBUS later
                    os.pwrite(self._fd, os.urandom(_KEY), len(_MAGIC))
                    os.pwrite(self._fd, _MAGIC, 0)
                self._map = mmap.mmap(self._fd, size)
            finally:
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _UNLOCK[_INIT_BYTE])
        except BaseException:
            os.close(self._fd)
            raise
        self._salt = self._map[len(_MAGIC) : len(_MAGIC) + _KEY]
        self._cells = memoryview(self._map).cast("Q")
        self._look_again = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + _RETIRED_CHECK_NS

    def _refuse_others(self) -> None:
        """Use no file that another user can have put there, or can cut: an access beyond its end would be a SIGBUS."""
        found = os.fstat(self._fd)
        ours = found.st_uid == os.geteuid() and not found.st_mode & 0o022 and found.st_nlink <= 1
        if not (ours and stat.S_ISREG(found.st_mode)):
            raise StorageError(f"{self._path} is not a file of this user's alone: see its owner, mode and links")


def _way_of(keys: bytes, digest: bytes) -> int:
    at = keys.find(digest)
    while at % _KEY and at > 0:  # across two keys by chance
        at = keys.find(digest, at + 1)
    return at // _KEY if at >= 0 else -1
