"""The limit on connections that hold memory and have not asked for anything: TLS handshakes under way, large parts of a head.

A connection without a request is small, and the descriptor table limits how many there are. OpenSSL's half of a handshake is
forty times as large, and a head may be as long as its limits; who opens many of them and lets them lie would fill the memory
within header_timeout. So there are at most so many a worker, and the oldest makes room, which an honest client rarely is: it
needs two round trips.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from apid.loggers import logger

LOG = logger(__name__)

MOST = 1000
"""Connections; 40 to 75 MB where all are as large as they can be."""

SMALL = 8192
"""Octets of a head that are not counted as large."""

LOG_INTERVAL = 10.0


class Half(Protocol):
    """A connection whose handshake or head may be under way."""

    @property
    def unfinished(self) -> bool:
        """Whether it is."""

    def give_up(self) -> None:
        """End it because there are too many like it."""


class Unfinished:
    """Those of one worker, in the order in which they began."""

    def __init__(self) -> None:
        self._found: dict[Any, None] = {}
        self._logged = 0.0
        self._closed = 0

    def add(self, conn: Half) -> None:
        """Count a connection, and give up the oldest where there are too many."""
        found = self._found
        found[conn] = None
        if len(found) <= MOST:
            return
        oldest = next(iter(found))
        del found[oldest]
        if not oldest.unfinished:
            return
        oldest.give_up()
        self._closed += 1
        now = time.monotonic()
        if now >= self._logged:
            self._logged = now + LOG_INTERVAL
            LOG.warning(
                "%d unfinished TLS handshakes and heads, the most that are held: the oldest are closed, %d so far",
                MOST,
                self._closed,
            )

    def discard(self, conn: Half) -> None:
        """Forget a connection that is over, or whose handshake is."""
        self._found.pop(conn, None)
