"""Shared memory in which each worker counts and the parent reads: one row a worker, one writer a row, no locks.

It is two memfds mapped by the parent before the fork, so that a worker inherits the mappings and an upgraded parent can map them
again from the descriptors. All cells are 8-byte aligned unsigned integers in the machine's byte order; a reader may see one
counter of a request before another of the same request, never half a number.

The workers' memory, of which each worker writes its own row: a row is three regions: CELLS counters; BUCKETS of the latency
histogram (log-linear, 16 buckets an octave of microseconds: an error of at most 1/32); and FLIGHTS entries for the requests in
flight. In front of all rows stands one cell a row with the open connections of that worker, or CLOSED where none accepts:
siblings look there before they accept, and a scan touches one page.

The parent's memory, which workers only read (`in_child`): who holds which row, the totals of ended workers, whether the daemon
leaves, and room for the document that the parent publishes (apid.bulletin).

Trust: a worker may write anything into its row and into the cells of the connections, and native code of one user into the rows
of its siblings, too. So the parent takes only numbers to show from there: any 64 bits are a number, and sums stop at MOST. Which
worker holds which row it records itself. False numbers of a worker spoil only its figures and the balance of connections.

Only this module knows the layout. The engine's hot path holds `Row.cells` (a memoryview of 'Q') and counts with
`cells[REQUESTS] += 1`: 60 ns, and safe because nobody else writes there.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
import time
from collections.abc import Iterable

from apid.flight import Flight, request_id
from apid.posix import memfd
from apid.posix.memfd import Memory

LAYOUT = 2
"""Number of this layout; an upgrade to a program with another one starts with new counters."""

ROWS = 512
"""Workers of two generations at most; a row is memory only once it is touched."""

MOST = 2**64 - 1
"""The greatest number; a sum that is greater is this one."""

CLOSED = MOST
"""In the connections cell: this worker does not accept."""

# Cells of a row. Appending is compatible within a LAYOUT; changing the meaning of one is not.
(
    STATE,
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
) = range(25)
CELLS = 128

REFUSALS = {status: 25 + place for place, status in enumerate((400, 408, 413, 414, 417, 431, 500, 501, 503, 505, 421))}
"""Cells of the answers that the engine made itself, by status code; their sum is in REFUSED."""

ACCESS_LOG_LOST = 64
"""Behind the room that REFUSALS may take."""

UNTIL_NS = 65
"""CLOCK_MONOTONIC at the deadline of a drain; 0: none."""

ENGINE = 66
"""Place of the engine among `conf.settings.POOL_SIZES`."""

THREADS, STUCK, GIL_WAIT_NS, GIL_OFF = 67, 68, 69, 70
"""Of the threads engine: native threads, slots that are held by requests that could not be ended, time that a thread waits for
the interpreter's lock (a moving average), 1 where the interpreter runs without that lock (free-threaded builds)."""

PRIVATE, PROPORTIONAL = 71, 72
"""Bytes of resident memory that are the worker's alone, and that and its share of all other; 0: not known."""

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

# Cells of a seat: who holds a row. The parent writes them; PID is 0 where nobody does.
PID, SLOT, GENERATION = range(3)
_SEAT = 3

# Cells in front of the parent's memory: the layout, odd while a row is folded into the totals, 1 while the daemon leaves
_LAYOUT, _EPOCH, _LEAVING = range(3)

FLIGHTS = 256
FLIGHT_LINE = 136
"""Bytes of the request line that are kept: the method and 128 of the path."""
_FLIGHT = 24 + FLIGHT_LINE


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


_ROW = _pages((CELLS + BUCKETS) * 8 + FLIGHTS * _FLIGHT)
_FIRST_ROW = _pages(ROWS * 8)
_SIZE = _FIRST_ROW + ROWS * _ROW

BULLETIN_BYTES = 512 * 1024
_SEATS = 64
_TOTALS = _SEATS + ROWS * _SEAT * 8
_BULLETIN = _pages(_TOTALS + (CELLS + BUCKETS) * 8)
_PARENTS_SIZE = _BULLETIN + BULLETIN_BYTES
_put_flight = struct.Struct("=QQQ136s").pack_into
_put_number = struct.Struct("=Q").pack_into
_STUCK_BIT = 1 << 63
"""In the number of a request in flight, of which a request id takes 48 bits."""


class State(enum.IntEnum):
    """What a worker says of itself in the STATE cell."""

    FREE = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3


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


class Row:
    """One worker's part. The worker writes; the parent reads, and clears it between two workers.

    Attributes:
        seat: PID, SLOT and GENERATION; the parent's.
    """

    __slots__ = ("_flights", "_free", "_memory", "cells", "connections", "histogram", "index", "seat")

    def __init__(self, memory: memoryview, parents: memoryview, index: int) -> None:
        start = _FIRST_ROW + index * _ROW
        self.index = index
        self.cells = memory[start : start + CELLS * 8].cast("Q")
        self.histogram = memory[start + CELLS * 8 : start + (CELLS + BUCKETS) * 8].cast("Q")
        self._flights = start + (CELLS + BUCKETS) * 8
        self._memory = memory
        self.connections = memory[: ROWS * 8].cast("Q")
        self.seat = parents[_SEATS + index * _SEAT * 8 :][: _SEAT * 8].cast("Q")
        self._free = self._entries()

    def _entries(self) -> list[int]:
        """Where the entries of requests in flight lie, the first one last."""
        return [self._flights + number * _FLIGHT for number in reversed(range(FLIGHTS))]

    @property
    def pages(self) -> slice:
        """Where it lies in the workers' memory."""
        start = _FIRST_ROW + self.index * _ROW
        return slice(start, start + _ROW)

    def clear(self) -> None:
        """Make the row new for a worker that is about to be forked; only the parent does this."""
        self._memory[self.pages] = bytes(_ROW)
        self.connections[self.index] = CLOSED
        self.take(0, 0, 0)
        self._free = self._entries()

    def take(self, pid: int, slot: int, generation: int) -> None:
        """Note who holds the row; only the parent does this."""
        self.seat[PID], self.seat[SLOT], self.seat[GENERATION] = pid, slot, generation

    def depart(self, line: bytes, number: int, now_ns: int) -> int:
        """Note that a request is in flight; returns the entry to `land` it with, or -1 when all entries are taken."""
        if not self._free:
            return -1
        at = self._free.pop()
        # One write; a reader that comes in between sees a start without its line, or half a line.
        _put_flight(self._memory, at, now_ns, number, len(line), line)
        return at

    def land(self, entry: int) -> None:
        """The request of this entry is answered or gone."""
        if entry >= 0:
            _put_number(self._memory, entry, 0)
            self._free.append(entry)

    def stick(self, entry: int, number: int) -> None:
        """The request of this entry, which has this number, could not be ended: it is `Flight.stuck`."""
        if entry >= 0:
            _put_number(self._memory, entry + 8, number | _STUCK_BIT)

    def flights(self, most: int = FLIGHTS) -> list[Flight]:
        """The `most` oldest requests in flight, oldest first; readable from another process at any moment."""
        found = []
        region = self._memory[self._flights : self._flights + FLIGHTS * _FLIGHT].cast("Q")
        starts = region[:: _FLIGHT // 8].tolist()
        for entry in sorted(filter(starts.__getitem__, range(FLIGHTS)), key=starts.__getitem__)[:most]:
            at = entry * _FLIGHT // 8
            length = min(region[at + 2], FLIGHT_LINE)
            line = bytes(self._memory[self._flights + entry * _FLIGHT + 24 :][:length]).decode("latin-1")
            number = region[at + 1]
            found.append(Flight(line, number & ~_STUCK_BIT, starts[entry], stuck=bool(number & _STUCK_BIT)))
        return found

    def in_flight(self) -> tuple[str, ...]:
        """The requests in flight as texts for the log, the oldest first: line, age and request id."""
        now = time.monotonic_ns()
        return tuple(one.text(now, self.request_id(one)) for one in self.flights())

    def request_id(self, flight: Flight) -> str:
        """The request id of a request in flight."""
        return request_id(self.cells[REQUEST_ID_HIGH], self.cells[REQUEST_ID_LOW], flight.number)

    def refuse(self, status: int) -> None:
        """Count an answer with this status code that the engine made itself."""
        self.cells[REFUSED] += 1
        self.cells[REFUSALS[status]] += 1

    def beat(self) -> None:
        """Say that the loop turns."""
        self.cells[BEAT_NS] = time.monotonic_ns()


class Scoreboard:
    """All rows.

    Attributes:
        bulletin: memory for `apid.bulletin`.
    """

    def __init__(self, fd: int, parents_fd: int) -> None:
        self._rows = Memory(fd, _SIZE)
        self._parents = Memory(parents_fd, _PARENTS_SIZE)
        parents = self._parents.view
        self.bulletin = parents[_BULLETIN:]
        self._head = parents[:_SEATS].cast("Q")
        self._totals = parents[_TOTALS:][: CELLS * 8].cast("Q")
        self._histogram = parents[_TOTALS + CELLS * 8 :][: BUCKETS * 8].cast("Q")

    @classmethod
    def create(cls) -> Scoreboard:
        """Make a new one in memfds of its own."""
        board = cls(memfd.create("apid-scoreboard", _SIZE), memfd.create("apid-scoreboard-parent", _PARENTS_SIZE))
        board._head[_LAYOUT] = LAYOUT
        board._rows.view[: ROWS * 8] = b"\xff" * (ROWS * 8)  # CLOSED
        return board

    @classmethod
    def attach(cls, fd: int, parents_fd: int) -> Scoreboard | None:
        """Map the one that another program made; None when its layout is not this one.

        Raises:
            OSError: these are no descriptors.
        """
        try:
            memfd.check(fd, _SIZE)
            memfd.check(parents_fd, _PARENTS_SIZE)
        except ValueError:
            return None
        board = cls(fd, parents_fd)
        return board if board.is_current() else None

    @staticmethod
    def abandon(parents_fd: int) -> None:
        """Mark a scoreboard that is not taken over: nobody keeps its seats any more, and their pids can be given again.

        Args:
            parents_fd: the parent's memory; the layout is the first cell of it in every LAYOUT.

        Raises:
            OSError: it cannot be written.
        """
        os.pwrite(parents_fd, bytes(8), 0)

    def is_current(self) -> bool:
        """Whether the parent keeps the seats, or has done so until its end."""
        return bool(self._head[_LAYOUT] == LAYOUT)

    @property
    def fds(self) -> tuple[int, int]:
        """The memfds, the workers' and the parent's, close-on-exec; an upgrade hands them on."""
        return self._rows.fd, self._parents.fd

    @property
    def leaving(self) -> bool:
        """Whether the daemon as a whole leaves; the parent writes it, workers of all generations read it."""
        return bool(self._head[_LEAVING])

    @leaving.setter
    def leaving(self, value: bool) -> None:
        self._head[_LEAVING] = value

    def in_child(self, row: Row | None) -> None:
        """In a fresh child, with the rights of the parent: close the descriptors, and write only the row of a worker."""
        self._rows.only_read(*([slice(0, _FIRST_ROW), row.pages] if row is not None else []))
        self._parents.only_read()

    def move_in(self, fd: int, old: Row, row: Row) -> None:
        """In a worker of a mold: write `row` instead of `old`, by a descriptor of the workers' memory, which is closed here."""
        self._rows.exchange(fd, old.pages, row.pages)

    def make_private(self, row: Row) -> None:
        """Cut a process that the application forked in a worker off from the rows: what it writes is its own, in `row` too."""
        self._rows.make_private(row.pages)

    def row(self, index: int) -> Row:
        """Return row `index`; 0 <= index < ROWS."""
        if not 0 <= index < ROWS:
            raise IndexError(f"row {index} of {ROWS}")
        return Row(self._rows.view, self._parents.view, index)

    def living(self) -> list[Row]:
        """Return the rows that a worker holds."""
        pids = self._parents.view[_SEATS:][: ROWS * _SEAT * 8].cast("Q")[::_SEAT].tolist()
        return [self.row(index) for index, pid in enumerate(pids) if pid]

    def fold(self, row: Row) -> None:
        """Add a dead worker's counters to the totals of ended workers and clear its row; only the parent does this.

        A reader elsewhere must not see the numbers twice: it reads again while the epoch is odd or has changed (a sequence lock).
        """
        self._head[_EPOCH] += 1
        for cell in COUNTERS:
            self._totals[cell] = min(MOST, self._totals[cell] + row.cells[cell])
        for index, count in enumerate(row.histogram.tolist()):
            if count:
                self._histogram[index] = min(MOST, self._histogram[index] + count)
        row.clear()
        self._head[_EPOCH] += 1

    def totals(self, rows: Iterable[int]) -> tuple[dict[int, int], list[int]]:
        """Return the counters of all workers that ever were: ({cell: count}, histogram); `rows`: those that are in use."""
        live = [row for index in rows if (row := self.row(index)).seat[PID]]
        for _ in range(1000):
            epoch = self._head[_EPOCH]
            counters = {cell: _sum(self._totals[cell], *(row.cells[cell] for row in live)) for cell in COUNTERS}
            histograms = (self._histogram.tolist(), *(row.histogram.tolist() for row in live))
            histogram = [_sum(*counts) for counts in zip(*histograms, strict=True)]
            if epoch % 2 == 0 and self._head[_EPOCH] == epoch:
                break
        return counters, histogram


def _sum(*counts: int) -> int:
    return min(MOST, sum(counts))
