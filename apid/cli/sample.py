"""Two status documents, and what happened between them: rates and quantiles. Values in, values out; it asks nobody."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

Document = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Traffic:
    """What was served in a span; latencies in seconds, None where nothing ended in it."""

    rate: float | None
    p50: float | None
    p99: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Seat:
    """A worker as the later document has it, and its traffic."""

    worker: Document
    traffic: Traffic

    def __getattr__(self, name: str) -> Any:
        """The worker's fields, for the columns."""
        try:
            return self.worker[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One picture.

    Attributes:
        now: the later document. seconds: between the two; 0: no earlier one, traffic is counted from each worker's start.
    """

    now: Document
    seconds: float
    traffic: Traffic
    errors: float | None
    """Answers of class 5xx a second."""
    seats: tuple[Seat, ...]

    @classmethod
    def of(cls, before: Document | None, now: Document) -> Sample:
        """Compare; a document of another daemon counts as none."""
        if before is not None and (before["pid"] != now["pid"] or before["uptime"] >= now["uptime"]):
            before = None
        seconds = now["uptime"] - before["uptime"] if before else 0.0
        old = {worker["pid"]: worker for worker in before["workers"]} if before else {}
        seats = []
        for worker in now["workers"]:
            was = old.get(worker["pid"])
            span = seconds if was else worker["uptime"]
            seats.append(Seat(worker, _traffic(was, worker, worker["requests"], was["requests"] if was else 0, span)))
        total, earlier = now["totals"], before["totals"] if before else {"requests": 0, "status_5xx": 0}
        span = seconds or now["uptime"]
        traffic = _traffic(before, now, total["requests"], earlier["requests"], span)
        errors = max(0.0, total["status_5xx"] - earlier["status_5xx"]) / span if span > 0 else None
        return cls(now, seconds, traffic, errors, tuple(seats))


def _traffic(before: Document | None, now: Document, requests: int, earlier: int, seconds: float) -> Traffic:
    fresh = _difference(before["latency"]["buckets"] if before else (), now["latency"]["buckets"])
    rate = max(0.0, requests - earlier) / seconds if seconds > 0 else None
    return Traffic(rate, quantile(fresh, 0.5), quantile(fresh, 0.99))


def _difference(before: Iterable[Sequence[int]], now: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    old = {one[0]: one[1] for one in before}
    return [(bound, count - old.get(bound, 0)) for bound, count in now if count > old.get(bound, 0)]


def quantile(buckets: Sequence[tuple[int, int]], share: float) -> float | None:
    """Return the latency in seconds below which `share` of the requests lie: the middle of its bucket, off by 1/32 at most.

    >>> quantile([(100, 98), (2048, 1), (5120, 1)], 0.99)
    0.002016
    """
    total = sum(count for _, count in buckets)
    seen = 0
    for bound, count in sorted(buckets):
        seen += count
        if seen >= total * share:
            width = 1 << max(0, (bound - 1).bit_length() - 5)  # 16 buckets an octave; below 32 one a microsecond
            return (bound - width / 2) / 1e6
    return None
