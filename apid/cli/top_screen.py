"""What `apidctl top` shows, as lines for a screen of a given size; and what its keys change. No terminal is touched here."""

from __future__ import annotations

import dataclasses
from typing import Any

from apid.cli import columns, figures, summary
from apid.cli.columns import COLUMNS
from apid.cli.sample import Sample, Seat
from apid.cli.summary import Line

HELP = "q quit  r requests/workers  < > sort  - turn order  space hold  arrows scroll"


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What the person at the keys has chosen.

    Attributes:
        requests: the requests in flight instead of the workers. sort: index in COLUMNS. down: from the greatest.
        first: rows scrolled away. held: the picture stands still.
    """

    requests: bool = False
    sort: int = 0
    down: bool = False
    first: int = 0
    held: bool = False

    def press(self, key: str, page: int) -> View:
        """Return the view after a key; one that means nothing changes nothing."""
        if key == "r":
            return dataclasses.replace(self, requests=not self.requests, first=0)
        if key in ("<", ">"):
            step = 1 if key == ">" else -1
            sort = (self.sort + step) % len(COLUMNS)
            return dataclasses.replace(self, sort=sort, down=COLUMNS[sort].title not in ("SLOT", "GEN", "PID"), first=0)
        if key == "-":
            return dataclasses.replace(self, down=not self.down)
        if key == " ":
            return dataclasses.replace(self, held=not self.held)
        steps = {"up": -1, "down": 1, "pgup": -page, "pgdn": page, "home": -self.first}
        return dataclasses.replace(self, first=max(0, self.first + steps.get(key, 0)))


def lines(sample: Sample, view: View, width: int, height: int, trouble: str = "") -> list[Line]:
    """Return exactly `height` lines; each may be longer than `width` and is cut by the one who draws.

    Args:
        sample: the picture.
        view: see there.
        width: of the screen in characters.
        height: of the screen in lines.
        trouble: why there is no newer picture.
    """
    head = summary.lines(sample)[: max(2, height - 6)]
    if view.held:
        head[0] = [("HELD  ", "warn"), *head[0]]
    if trouble:
        head[0] = [(trouble, "bad")]
    rows = _requests(sample, width) if view.requests else _workers(sample, view, width)
    room = max(0, height - len(head) - 2)
    body = rows[:1] + rows[1 + min(view.first, max(0, len(rows) - 1 - room)) :][:room]
    filled = [*head, *body]
    filled += [[] for _ in range(height - 1 - len(filled))]
    return [*filled[: height - 1], [(HELP, "quiet")]]


def _workers(sample: Sample, view: View, width: int) -> list[Line]:
    chosen = COLUMNS[view.sort]
    seats = sorted(sample.seats, key=lambda seat: (seat.slot, seat.generation))
    seats.sort(key=chosen.key, reverse=view.down)
    fitting = columns.fitting(seats, width - 2, gap=1)
    titles = ""
    for column, room in fitting:
        # the mark takes the place of a blank, so that nothing moves when the order changes
        mark = ("v" if view.down else "^") if column is chosen else " "
        titles += _cell(column.title, room, column.left) + mark
    return [[(titles.ljust(width), "bar")], *(_row(seat, fitting) for seat in seats)]


def _row(seat: Seat, fitting: list[tuple[columns.Column, int]]) -> Line:
    return [(_cell(column.text(seat), room, column.left) + " ", column.tone(seat)) for column, room in fitting]


def _requests(sample: Sample, width: int) -> list[Line]:
    found: list[tuple[dict[str, Any], Seat]] = [(one, seat) for seat in sample.seats for one in seat.flights]
    found.sort(key=lambda pair: -pair[0]["age"])
    ids = width >= 120  # an id has 40 characters
    room = width - 20 - (42 if ids else 0)  # the last cell of a line cannot be written to
    titles: Line = [((f"{'AGE':>6}  SLOT  GEN  {'REQUEST':<{room}}" + ("  ID" if ids else "")).ljust(width), "bar")]
    rows: list[Line] = []
    for flight, seat in found:
        text = f"{figures.duration(flight['age']):>6}  {seat.slot:>4}  {seat.generation:>3}  "
        request = f"{'stuck: ' if flight['stuck'] else ''}{flight['line']}"
        line: Line = [(text, "plain"), (f"{request[:room]:<{room}}", "bad" if flight["stuck"] else "plain")]
        rows.append([*line, (f"  {flight['id']}", "quiet")] if ids else line)
    return [titles, *rows] if rows else [titles, [("no request is in flight", "quiet")]]


def _cell(text: str, room: int, left: bool) -> str:
    return f"{text:<{room}}" if left else f"{text:>{room}}"
