"""Shared memory in which each worker counts and the parent reads: one row a worker, one writer a row, no locks.

The memory is a memfd mapped by the parent before the fork, so that a worker inherits the mapping and an upgraded parent can
map it again from the descriptor. All cells are 8-byte aligned unsigned integers in the machine's byte order; a reader may see
one counter of a request before another of the same request, never half a number.

A row is three regions: CELLS counters; BUCKETS of the latency histogram (log-linear, 16 buckets an octave of microseconds:
an error of at most 1/32); and FLIGHTS entries for the requests in flight. In front of all rows stands one cell a row with the
open connections of that worker, or CLOSED where none accepts, and one byte a row that is 1 while that worker sleeps with its
ear at the listeners: siblings look there before they accept, and a scan touches two pages. Behind all rows is room for what the
parent tells everybody (apid.bulletin).

Only this module knows the layout. The engine's hot path holds `Row.cells` (a memoryview of 'Q') and counts with
`cells[REQUESTS] += 1`: 60 ns, and safe because nobody else writes there.
"""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import mmap
import os
import struct
import time
from collections.abc import Iterable, Sequence

LAYOUT = 1
"""Number of this layout; an upgrade to a program with another one starts with new counters."""

ROWS = 512
"""Workers of two generations at most; a row is memory only once it is touched."""

CLOSED = 2**64 - 1
"""In the connections cell: this worker does not accept."""

# Cells of a row. Appending is compatible within a LAYOUT; changing the meaning of one is not.
(
    STATE,
    PID,
    SLOT,
    GENERATION,
    STARTED_NS,
    BEAT_NS,
    HUB_LAG_NS,
    CONNECTIONS,
    IDLE,
    IN_FLIGHT,
    REQUESTS,
    ACCEPTED,
    BYTES_IN,
    BYTES_OUT,
    STATUS_1XX,
    STATUS_2XX,
    STATUS_3XX,
    STATUS_4XX,
    STATUS_5XX,
    REFUSED,
    ACCEPT_PAUSES,
    TIMEOUTS,
    LATENCY_SUM_US,
    CUT,
    HANDSHAKE_FAILURES,
    WAKEUPS,
    POOL_LIMIT,
    REQUEST_ID_HIGH,
    REQUEST_ID_LOW,
) = range(29)
CELLS = 128

REFUSALS = {status: 29 + place for place, status in enumerate((400, 408, 413, 414, 417, 431, 500, 501, 503, 505, 421))}
"""Cells of the answers that the engine made itself, by status code; their sum is in REFUSED."""

ACCESS_LOG_LOST = 64
"""Behind the room that REFUSALS may take."""

UNTIL_NS = 65
"""CLOCK_MONOTONIC at the deadline of a drain; 0: none."""

COUNTERS = (
    REQUESTS,
    ACCEPTED,
    BYTES_IN,
    BYTES_OUT,
    STATUS_1XX,
    STATUS_2XX,
    STATUS_3XX,
    STATUS_4XX,
    STATUS_5XX,
    REFUSED,
    ACCEPT_PAUSES,
    TIMEOUTS,
    LATENCY_SUM_US,
    CUT,
    HANDSHAKE_FAILURES,
    WAKEUPS,
    ACCESS_LOG_LOST,
    *REFUSALS.values(),
)
"""The cells that only grow: folded into the retired totals at a worker's end."""

BUCKETS = 384
"""16 a power of two, from 1 microsecond to 2**26 (67 s); longer ones count in the last."""

RETIRED = ROWS - 1
"""The row in which the parent adds up what ended workers had counted."""

_EPOCH = 0  # cell of the retired row: odd while a row is being folded into it
_LEAVING = 1  # cell of the retired row: 1 while the daemon leaves

FLIGHTS = 256
FLIGHT_LINE = 136
"""Bytes of the request line that are kept: the method and 128 of the path."""
_FLIGHT = 24 + FLIGHT_LINE

_HEAD = 64  # bytes: LAYOUT and room
_ROW = (CELLS + BUCKETS) * 8 + FLIGHTS * _FLIGHT
_CONNECTIONS = _HEAD
_LISTENING = _CONNECTIONS + ROWS * 8
_FIRST_ROW = -(-(_LISTENING + ROWS) // mmap.PAGESIZE) * mmap.PAGESIZE
_BULLETIN = _FIRST_ROW + ROWS * _ROW
BULLETIN_BYTES = 512 * 1024
_SIZE = _BULLETIN + BULLETIN_BYTES
_MAP_FIXED = 0x10  # linux/mman.h
_put_flight = struct.Struct("=QQQ136s").pack_into
_put_number = struct.Struct("=Q").pack_into


class State(enum.IntEnum):
    """What a worker says of itself in the STATE cell."""

    FREE = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Flight:
    """One request in flight, as read from shared memory.

    Attributes:
        line: the request line as it came, cut to FLIGHT_LINE bytes, latin-1.
        number: the worker's running number of the request; its request id is made from it.
        started_ns: CLOCK_MONOTONIC.
    """

    line: str
    number: int
    started_ns: int

    def age(self, now_ns: int) -> float:
        """Seconds since the head of the request was read."""
        return max(0, now_ns - self.started_ns) / 1e9


def bucket(microseconds: int) -> int:
    """Return the index in the histogram of a latency.

    >>> [bucket(us) for us in (0, 15, 16, 31, 32, 1000, 10**9)]
    [0, 15, 16, 31, 32, 111, 383]
    """
    if microseconds < 16:
        return microseconds
    exponent = microseconds.bit_length() - 5
    index = exponent * 16 + (microseconds >> exponent)
    return index if index < BUCKETS else BUCKETS - 1


def bucket_bounds(index: int) -> tuple[int, int]:
    """Return (low, high) of a bucket in microseconds, high exclusive."""
    if index < 32:
        return index, index + 1
    exponent = index // 16 - 1
    return (16 + index % 16) << exponent, (17 + index % 16) << exponent


def request_id(high: int, low: int, number: int) -> str:
    """Return the id of a worker's request out of the cells REQUEST_ID_HIGH and _LOW and the request's running number.

    >>> request_id(0x0123456789AB4DEF, 0x8123, 1)
    'req-01234567-89ab-4def-8123-000000000001'
    """
    return f"{request_id_prefix(high, low)}{number & 0xFFFFFFFFFFFF:012x}"


def request_id_prefix(high: int, low: int) -> str:
    """The part of a worker's request ids that they have in common; OpenStack's form, which is `req-` and a UUID."""
    text = f"{high:016x}"
    return f"req-{text[:8]}-{text[8:12]}-{text[12:]}-{low:04x}-"


def in_words(requests: Sequence[str], most: int = 20) -> str:
    """Join texts of requests for a line of the log: the first `most`, and how many more.

    >>> in_words(["GET /a", "GET /b", "GET /c"], most=2)
    'GET /a; GET /b; and 1 more'
    """
    return "; ".join([*requests[:most], *([f"and {len(requests) - most} more"] if len(requests) > most else [])])


class Row:
    """One worker's part. The worker writes; the parent reads, and clears it between two workers."""

    __slots__ = ("_flights", "_free", "_memory", "cells", "connections", "histogram", "index", "listening")

    def __init__(self, memory: memoryview, index: int) -> None:
        start = _FIRST_ROW + index * _ROW
        self.index = index
        self.cells = memory[start : start + CELLS * 8].cast("Q")
        self.histogram = memory[start + CELLS * 8 : start + (CELLS + BUCKETS) * 8].cast("Q")
        self._flights = start + (CELLS + BUCKETS) * 8
        self._memory = memory
        self.connections = memory[_CONNECTIONS : _CONNECTIONS + ROWS * 8].cast("Q")
        self.listening = memory[_LISTENING : _LISTENING + ROWS]
        self._free = list(range(FLIGHTS - 1, -1, -1))

    def clear(self) -> None:
        """Make the row new for a worker that is about to be forked."""
        start = _FIRST_ROW + self.index * _ROW
        self._memory[start : start + _ROW] = bytes(_ROW)
        self.connections[self.index] = CLOSED
        self.listening[self.index] = 0
        self._free = list(range(FLIGHTS - 1, -1, -1))

    def depart(self, line: bytes, number: int, now_ns: int) -> int:
        """Note that a request is in flight; returns the entry to `land` it with, or -1 when all entries are taken."""
        if not self._free:
            return -1
        entry = self._free.pop()
        at = self._flights + entry * _FLIGHT
        # One write; a reader that comes in between sees a start without its line, or half a line.
        _put_flight(self._memory, at, now_ns, number, len(line), line)
        return entry

    def land(self, entry: int) -> None:
        """The request of this entry is answered or gone."""
        if entry >= 0:
            _put_number(self._memory, self._flights + entry * _FLIGHT, 0)
            self._free.append(entry)

    def flights(self, most: int = FLIGHTS) -> list[Flight]:
        """The `most` oldest requests in flight, oldest first; readable from another process at any moment."""
        found = []
        region = self._memory[self._flights : self._flights + FLIGHTS * _FLIGHT].cast("Q")
        starts = region[:: _FLIGHT // 8].tolist()
        for entry in sorted(filter(starts.__getitem__, range(FLIGHTS)), key=starts.__getitem__)[:most]:
            at = entry * _FLIGHT // 8
            length = min(region[at + 2], FLIGHT_LINE)
            line = bytes(self._memory[self._flights + entry * _FLIGHT + 24 :][:length]).decode("latin-1")
            found.append(Flight(line, region[at + 1], starts[entry]))
        return found

    def in_flight(self) -> tuple[str, ...]:
        """The requests in flight as texts for the log, the oldest first: line, age and request id."""
        now = time.monotonic_ns()
        return tuple(f"{one.line} for {one.age(now):.1f} s ({self.request_id(one)})" for one in self.flights())

    def request_id(self, flight: Flight) -> str:
        """The request id of a request in flight."""
        return request_id(self.cells[REQUEST_ID_HIGH], self.cells[REQUEST_ID_LOW], flight.number)

    def refuse(self, status: int) -> None:
        """Count an answer with this status code that the engine made itself."""
        self.cells[REFUSED] += 1
        self.cells[REFUSALS[status]] += 1

    def beat(self) -> None:
        """Say that the hub turns."""
        self.cells[BEAT_NS] = time.monotonic_ns()


class Scoreboard:
    """All rows.

    Attributes:
        fd: the memfd, close-on-exec; an upgrade hands it on.
        bulletin: memory for `apid.bulletin`.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, _SIZE)
        self._memory = memoryview(self._map)
        self.bulletin = self._memory[_BULLETIN:]
        at = _FIRST_ROW + RETIRED * _ROW + _LEAVING * 8
        self._leaving = self._memory[at : at + 8].cast("Q")

    @classmethod
    def create(cls) -> Scoreboard:
        """Make a new one in a memfd of its own."""
        fd = os.memfd_create("apid-scoreboard", os.MFD_CLOEXEC)
        os.ftruncate(fd, _SIZE)
        board = cls(fd)
        board._memory[0:8] = LAYOUT.to_bytes(8, "little")
        connections = board._memory[_CONNECTIONS : _CONNECTIONS + ROWS * 8].cast("Q")
        for index in range(ROWS):
            connections[index] = CLOSED
        return board

    @classmethod
    def attach(cls, fd: int) -> Scoreboard | None:
        """Map the one that another program made; None when its layout is not this one."""
        if os.fstat(fd).st_size != _SIZE:
            return None
        board = cls(fd)
        return board if int.from_bytes(board._memory[0:8], "little") == LAYOUT else None

    @property
    def leaving(self) -> bool:
        """Whether the daemon as a whole leaves; the parent writes it, workers of all generations read it."""
        return bool(self._leaving[0])

    @leaving.setter
    def leaving(self, value: bool) -> None:
        self._leaving[0] = value

    def make_private(self) -> None:
        """Replace the shared mapping with a private one at the same address (mmap(2), MAP_PRIVATE).

        For a process that the application forked in a worker: references to rows stay valid, and its writes are its own.
        """
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *([ctypes.c_int] * 3), ctypes.c_long]
        flags = mmap.MAP_PRIVATE | _MAP_FIXED
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        if libc.mmap(address, _SIZE, protection, flags, self.fd, 0) != address:  # its descriptor may be closed
            libc.mmap(address, _SIZE, protection, flags | mmap.MAP_ANONYMOUS, -1, 0)

    def row(self, index: int) -> Row:
        """Return row `index`; 0 <= index < ROWS."""
        if not 0 <= index < ROWS:
            raise IndexError(f"row {index} of {ROWS}")
        return Row(self._memory, index)

    def living(self) -> list[Row]:
        """Return the rows whose worker has said something of itself."""
        states = self._memory[_FIRST_ROW : _FIRST_ROW + RETIRED * _ROW].cast("Q")[:: _ROW // 8]
        return [self.row(index) for index, state in enumerate(states) if state != State.FREE]

    def fold(self, row: Row) -> None:
        """Add a dead worker's counters to the retired totals and clear its row; only the parent does this.

        A reader in another process must not see the numbers twice or not at all: it reads again while the epoch is odd or has
        changed (a sequence lock; there is one writer).
        """
        retired = self.row(RETIRED)
        retired.cells[_EPOCH] += 1
        for cell in COUNTERS:
            retired.cells[cell] += row.cells[cell]
        for index in range(BUCKETS):
            if count := row.histogram[index]:
                retired.histogram[index] += count
        row.clear()
        retired.cells[_EPOCH] += 1

    def totals(self, rows: Iterable[int]) -> tuple[dict[int, int], list[int]]:
        """Return the counters of all workers that ever were: ({cell: count}, histogram); they never go back.

        Args:
            rows: the rows that are in use.
        """
        retired = self.row(RETIRED)
        live = [row for index in rows if (row := self.row(index)).cells[PID]]
        for _ in range(1000):
            epoch = retired.cells[_EPOCH]
            counters = {cell: retired.cells[cell] + sum(row.cells[cell] for row in live) for cell in COUNTERS}
            histogram = [sum(counts) for counts in zip(*(r.histogram.tolist() for r in (retired, *live)), strict=True)]
            if epoch % 2 == 0 and retired.cells[_EPOCH] == epoch:
                break
        return counters, histogram
