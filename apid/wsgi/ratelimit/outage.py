"""What happens while the counts cannot be reached: it is said once an interval, and tried again once a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from apid.wsgi.ratelimit.charge import Charge, Counts, StorageError
from apid.wsgi.ratelimit.limit import Limit

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds between two tries of a storage that is away; in between nobody waits for its timeout."""

SAY_EVERY = 60.0
"""Seconds between two log lines about the same outage."""

_Call = Callable[[bytes, Sequence[Limit]], list[Charge]]


class Guarded:
    """Counts that may be away: None instead of an exception, and an eye on the clock.

    Args:
        counts: the storage.
        consequence: what happens to requests meanwhile, for the log.
    """

    def __init__(self, counts: Counts, consequence: str) -> None:
        self._counts = counts
        self._consequence = consequence
        self._away = False
        self._retry_at = 0.0
        self._say_at = 0.0

    def charge(self, user: bytes, limits: Sequence[Limit]) -> list[Charge] | None:
        """Charge a hit to each of some limits; None while the storage is away."""
        return self._asked(self._counts.charge, user, limits)

    def peek(self, user: bytes, limits: Sequence[Limit]) -> list[Charge] | None:
        """What a hit would meet; None while the storage is away."""
        return self._asked(self._counts.peek, user, limits)

    def _asked(self, call: _Call, user: bytes, limits: Sequence[Limit]) -> list[Charge] | None:
        now = time.monotonic()
        if self._away:
            if now < self._retry_at:
                return None
            self._retry_at = now + RETRY  # this request tries; those that come while it waits do not
        try:
            found = call(user, limits)
        except (StorageError, OSError) as error:
            self._lost(error)
            return None
        if self._away:
            self._away = False
            log.warning("rate limits are counted again")
        return found

    def _lost(self, error: Exception) -> None:
        now = time.monotonic()
        self._away = True
        self._retry_at = now + RETRY
        if now >= self._say_at:
            self._say_at = now + SAY_EVERY
            log.error("rate limits are not counted, %s until they are: %s", self._consequence, error)
