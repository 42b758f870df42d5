"""A request in flight, as others see it: the entry in shared memory, its id, and how it stands in a line of the log."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Flight:
    """One request in flight, as read from shared memory.

    Attributes:
        line: the request line as it came, cut to its first bytes, latin-1.
        number: the worker's running number of the request; its request id is made from it.
        started_ns: CLOCK_MONOTONIC.
        stuck: request_timeout has answered it, and could not end it: it holds its slot.
    """

    line: str
    number: int
    started_ns: int
    stuck: bool = False

    def age(self, now_ns: int) -> float:
        """Seconds since the head of the request was read."""
        return max(0, now_ns - self.started_ns) / 1e9

    def text(self, now_ns: int, request_id: str) -> str:
        """Line, age and request id, for the log."""
        return f"{self.line} for {self.age(now_ns):.1f} s ({request_id}{', stuck' if self.stuck else ''})"


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
