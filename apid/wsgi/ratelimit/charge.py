"""What a counter says about a hit, and what it raises when it cannot say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from apid.wsgi.ratelimit.limit import Limit


class StorageError(Exception):
    """The counts cannot be reached now; the text says where and why, and never holds a password."""


@dataclasses.dataclass(frozen=True, slots=True)
class Charge:
    """One limit's answer to one hit.

    Attributes:
        limit: which.
        delay: seconds until a hit passes; 0 for one that passed.
        remaining: how many hits pass at once, after this one.
        reset: seconds until the whole limit is there again.
    """

    limit: Limit
    delay: float
    remaining: int
    reset: float


class Counts(Protocol):
    """Where hits are counted."""

    def charge(self, user: bytes, limits: Sequence[Limit]) -> list[Charge]:
        """Charge a hit to each of some limits; raises StorageError."""
        ...

    def peek(self, user: bytes, limits: Sequence[Limit]) -> list[Charge]:
        """What a hit would meet; raises StorageError."""
        ...
