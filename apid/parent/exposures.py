"""Silent workers in the log: their stack, which they write a moment after the signal, and the requests in flight."""

from __future__ import annotations

import time

from apid import log
from apid.flight import in_words
from apid.loggers import logger
from apid.parent.stacks import Stacks
from apid.posix import processes, signals
from apid.scoreboard import GENERATION, IN_FLIGHT, POOL_LIMIT, SLOT, THREADS, Row, Scoreboard

LOG = logger("apid.parent")

MOMENT = 0.2
"""Seconds that a worker gets to write its stack."""

NONE = "(it wrote no stack: it is stopped, or a C call holds the lock of its interpreter)"
"""Logged where there is no stack."""


class Exposures:
    """The workers that were asked for their stack, until it is logged.

    Args:
        rows: of the scoreboard, by pid; the caller's, who changes it.
    """

    def __init__(self, board: Scoreboard, rows: dict[int, int], stacks: Stacks) -> None:
        self._board = board
        self._rows = rows
        self._stacks = stacks
        self._asked: list[tuple[float, int, str]] = []

    def ask(self, pid: int, age: float, *, hung: bool) -> None:
        """Ask a worker that has not beaten for `age` seconds."""
        row = self._board.row(self._rows[pid])
        flights = in_words(row.in_flight())
        what = "hung" if hung else "stalled"
        text = f"{what}: {_why(row)} for {age:.1f} s; requests in flight: {flights or 'none'}"
        self._stacks.ask(pid)
        processes.kill(pid, signals.LAST_STACKS if hung else signals.STACKS)
        self._asked.append((time.monotonic() + MOMENT, pid, text))

    def due(self) -> float | None:
        """When `collect` has something to do, in monotonic seconds."""
        return min((at for at, _, _ in self._asked), default=None)

    def collect(self, now: float) -> None:
        """Log what those have written who were asked: one block an incident."""
        due = [one for one in self._asked if one[0] <= now]
        self._asked = [one for one in self._asked if one[0] > now]
        for _, pid, text in due:
            stack = self._stacks.take(pid)
            row = self._rows.get(pid)
            if row is None:
                continue
            seat = self._board.row(row).seat
            about = log.about(seat[SLOT], seat[GENERATION], pid)
            LOG.error("%s", text, extra={**about, "block": stack.strip() or NONE})


def _why(row: Row) -> str:
    """What has not happened; only native threads (THREADS) can hang while the loop turns."""
    cells = row.cells
    if cells[THREADS] and cells[IN_FLIGHT] >= cells[POOL_LIMIT]:
        return f"all slots (pool_size = {cells[POOL_LIMIT]}) are taken, and none has made progress"
    return "its loop has not turned"
