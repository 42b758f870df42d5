"""`apidctl status` for people: the summary and a row a worker, drawn by rich."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from apid.cli import columns, summary
from apid.cli.columns import Tone
from apid.cli.sample import Sample

STYLES: dict[Tone, str] = {
    "plain": "",
    "quiet": "dim",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "head": "bold",
    "bar": "reverse",
}

NO_TERMINAL = 200
"""Characters a line where the output is no terminal: nothing is left out then."""


def show(sample: Sample) -> None:
    """Print it; colours only on a terminal, and none where NO_COLOR says so."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else NO_TERMINAL
    console = Console(width=width, highlight=False, soft_wrap=False)
    for line in summary.lines(sample):
        text = Text(no_wrap=True, overflow="ellipsis")
        for part, tone in line:
            text.append(part, STYLES[tone])
        console.print(text)
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    fitting = columns.fitting(sample.seats, console.width)
    for column, width in fitting:
        table.add_column(column.title, justify="left" if column.left else "right", min_width=width, no_wrap=True)
    for seat in sample.seats:
        table.add_row(*(Text(column.text(seat), STYLES[column.tone(seat)]) for column, _ in fitting))
    if sample.seats:
        console.print(table)
    else:
        console.print("no workers")
