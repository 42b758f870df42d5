"""The columns of the tables that `apidctl status` and `apidctl top` share: what stands in a cell, how loud, how it sorts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

from apid.cli import figures
from apid.cli.sample import Seat

Tone = Literal["plain", "quiet", "good", "warn", "bad", "head", "bar"]

SILENT = 1.5
"""Seconds without a beat (they come every 0.5 s) that are worth a word."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        rank: those of the highest rank go first where the terminal is narrow.
        width: characters it needs at least. left: how its text stands.
        needed: whether a worker has something to say in it; a column that no worker needs is left out.
    """

    title: str
    rank: int
    width: int
    text: Callable[[Seat], str]
    key: Callable[[Seat], Any]
    tone: Callable[[Seat], Tone] = lambda _: "plain"
    left: bool = False
    needed: Callable[[Seat], bool] = lambda _: True


def _state(seat: Seat) -> str:
    return "stalled" if seat.stalled else str(seat.stage)


def _state_tone(seat: Seat) -> Tone:
    if seat.stalled or seat.stage == "killed":
        return "bad"
    return "good" if seat.stage == "ready" else "warn"


def _lag(seat: Seat) -> str:
    if seat.beat_age is not None and seat.beat_age > SILENT:
        return f"silent {figures.duration(seat.beat_age)}"
    return figures.duration(seat.hub_lag)


def _lag_tone(seat: Seat) -> Tone:
    if seat.beat_age is not None and seat.beat_age > SILENT:
        return "bad"
    return "warn" if seat.hub_lag > 0.1 else "plain"


def _busy_tone(seat: Seat) -> Tone:
    full = seat.in_flight / seat.limit if seat.limit else 0
    return "bad" if full >= 1 else "warn" if full >= 0.8 else "plain"


def _age(seat: Seat) -> float:
    return float(seat.oldest["age"]) if seat.oldest else 0.0


def _oldest(seat: Seat) -> str:
    return figures.duration(_age(seat)) if seat.oldest else figures.NONE


def _oldest_tone(seat: Seat) -> Tone:
    return "bad" if seat.oldest and seat.oldest["stuck"] else "plain"


def _stuck_tone(seat: Seat) -> Tone:
    return "bad" if seat.stuck else "plain"


def _gil(seat: Seat) -> str:
    return figures.duration(seat.gil_wait) if seat.gil else "off"


def _native(seat: Seat) -> bool:
    return seat.threads is not None


def _private(seat: Seat) -> str:
    return figures.NONE if seat.private is None else figures.size(seat.private)


def _end(seat: Seat) -> str:
    return f"now: {seat.cause}" if seat.cause else seat.last_end or figures.NONE


def _end_tone(seat: Seat) -> Tone:
    word = str(seat.cause or seat.last_end or "")
    return "bad" if word.startswith(("crash", "hung", "boot", "exit")) else "quiet"


COLUMNS = (
    Column("SLOT", 0, 4, lambda s: str(s.slot), lambda s: s.slot),
    Column("PID", 1, 5, lambda s: str(s.pid), lambda s: s.pid),
    Column("GEN", 0, 3, lambda s: str(s.generation), lambda s: s.generation),
    Column("STATE", 0, 8, _state, _state, _state_tone, left=True),
    Column("UP", 4, 5, lambda s: figures.duration(s.uptime), lambda s: s.uptime),
    Column("REQ/S", 0, 5, lambda s: figures.count(s.traffic.rate), lambda s: s.traffic.rate or 0),
    Column("P50", 3, 5, lambda s: figures.duration(s.traffic.p50), lambda s: s.traffic.p50 or 0),
    Column("P99", 0, 5, lambda s: figures.duration(s.traffic.p99), lambda s: s.traffic.p99 or 0),
    Column("CONN", 0, 5, lambda s: figures.count(s.connections), lambda s: s.connections),
    Column("BUSY", 0, 9, lambda s: f"{s.in_flight}/{s.limit}", lambda s: s.in_flight, _busy_tone),
    Column("STUCK", 0, 5, lambda s: str(s.stuck), lambda s: s.stuck, _stuck_tone, needed=lambda s: s.stuck > 0),
    Column("OLDEST", 0, 6, _oldest, _age, _oldest_tone),
    Column("RSS", 2, 5, lambda s: figures.size(s.rss), lambda s: s.rss),
    Column("USS", 3, 5, _private, lambda s: s.private or 0, needed=lambda s: s.private is not None),
    Column("LAG", 1, 6, _lag, lambda s: max(s.hub_lag, s.beat_age or 0.0), _lag_tone),
    Column("THREADS", 4, 7, lambda s: figures.count(s.threads), lambda s: s.threads or 0, needed=_native),
    Column("GIL", 4, 5, _gil, lambda s: s.gil_wait or 0.0, needed=_native),
    Column("ENGINE", 6, 8, lambda s: str(s.engine), lambda s: s.engine, left=True),
    Column("LAST END", 5, 10, _end, _end, _end_tone, left=True),
)


def fitting(seats: Sequence[Seat], room: int, gap: int = 2) -> list[tuple[Column, int]]:
    """Return the columns that fit into `room` characters, each with its width; the most important stay."""
    widths = {c.title: max([c.width, len(c.title), *(len(c.text(seat)) for seat in seats)]) for c in COLUMNS}
    kept = [column for column in COLUMNS if not seats or any(map(column.needed, seats))]
    while len(kept) > 1 and sum(widths[c.title] + gap for c in kept) - gap > room:
        worst = max(c.rank for c in kept)
        kept.remove([c for c in kept if c.rank == worst][-1])
    return [(column, widths[column.title]) for column in kept]
