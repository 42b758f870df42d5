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
    """

    title: str
    rank: int
    width: int
    text: Callable[[Seat], str]
    key: Callable[[Seat], Any]
    tone: Callable[[Seat], Tone] = lambda _: "plain"
    left: bool = False


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
    Column("OLDEST", 0, 6, lambda s: figures.duration(_age(s)) if s.oldest else figures.NONE, _age),
    Column("RSS", 2, 5, lambda s: figures.size(s.rss), lambda s: s.rss),
    Column("LAG", 1, 6, _lag, lambda s: max(s.hub_lag, s.beat_age or 0.0), _lag_tone),
    Column("LAST END", 5, 10, _end, _end, _end_tone, left=True),
)


def fitting(seats: Sequence[Seat], room: int, gap: int = 2) -> list[tuple[Column, int]]:
    """Return the columns that fit into `room` characters, each with its width; the most important stay."""
    widths = {c.title: max([c.width, len(c.title), *(len(c.text(seat)) for seat in seats)]) for c in COLUMNS}
    kept = list(COLUMNS)
    while len(kept) > 1 and sum(widths[c.title] + gap for c in kept) - gap > room:
        worst = max(c.rank for c in kept)
        kept.remove([c for c in kept if c.rank == worst][-1])
    return [(column, widths[column.title]) for column in kept]
