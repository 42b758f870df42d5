"""How long to wait before a worker is forked again: pure arithmetic on the history of one slot."""

from __future__ import annotations

import dataclasses

FIRST = 1.0
"""Seconds before the second try; the first is immediate, for a worker may die once by accident (OOM, kill -9)."""
LONGEST = 30.0
GOOD = 0.5
"""Seconds of readiness after which a slot is no longer called failing."""
STABLE = 10.0
"""Seconds of readiness after which the history is forgotten; shorter, and a worker that crashes at each first request would
be forked as fast as requests come."""


@dataclasses.dataclass(slots=True)
class Backoff:
    """The history of one slot.

    Attributes:
        failures: short lives in a row. not_before: monotonic seconds before which the slot is not filled again.
    """

    failures: int = 0
    not_before: float = 0.0
    why: str = ""
    """How the last one ended."""

    def died(self, now: float, ready_for: float, why: str = "") -> float:
        """Note an unwanted death after `ready_for` seconds of readiness (0: never ready); return the pause in seconds."""
        self.why = why
        self.failures = 1 if ready_for >= STABLE else self.failures + 1
        pause = 0.0 if self.failures == 1 else min(LONGEST, FIRST * 2 ** (self.failures - 2))
        self.not_before = now + pause
        return pause
