"""How much memory each mold has, and shares: looked at rarely, one at a time, because the kernel walks its pages.

A worker looks at itself (`worker.life`), for the parent must not wait for the lock of an address space in which foreign code
runs. A mold that is ready runs none.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from apid.posix import processes

AGAIN = 5.0
"""Seconds between two looks at the same mold."""


class Memory:
    """The last look at each mold."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, int, int]] = {}
        """pid -> (monotonic seconds of the look, private bytes, proportional bytes)."""

    def look(self, pids: Collection[int]) -> None:
        """Look at one mold, if one is due; forget those that are gone."""
        self._seen = {pid: seen for pid, seen in self._seen.items() if pid in pids}
        oldest = min(pids, key=lambda pid: self._seen.get(pid, (0.0,))[0], default=0)
        now = time.monotonic()
        if oldest and now - self._seen.get(oldest, (-AGAIN,))[0] >= AGAIN:
            self._seen[oldest] = (now, *processes.memory(oldest))

    def of(self, pid: int) -> dict[str, int | None]:
        """Bytes that are `private` to a mold, and `proportional`: that and its share of others; None while not known."""
        _, private, proportional = self._seen.get(pid, (0.0, 0, 0))
        return {"private": private or None, "proportional": proportional or None}
