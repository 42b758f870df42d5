"""`apidctl top`: the status, live, on a terminal. curses draws: it works over ssh and gives the terminal back as it was."""

from __future__ import annotations

import curses
import locale
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from apid.cli import top_screen
from apid.cli.columns import Tone
from apid.cli.sample import Sample
from apid.cli.summary import Line
from apid.cli.top_screen import View
from apid.errors import ApidError, ConfigError

FLIGHTS = 100
"""Requests in flight that are asked for of each worker."""

_KEYS = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_PPAGE: "pgup",
    curses.KEY_NPAGE: "pgdn",
    curses.KEY_HOME: "home",
}
_COLOURS: dict[Tone, int] = {"good": curses.COLOR_GREEN, "warn": curses.COLOR_YELLOW, "bad": curses.COLOR_RED}

Ask = Callable[[int], dict[str, Any]]
"""Gives a status document with so many requests in flight of each worker; raises ApidError when there is none."""


def run(ask: Ask, interval: float) -> None:
    """Show it until `q`.

    Args:
        ask: where documents come from.
        interval: seconds between two pictures.

    Raises:
        ConfigError: standard input or output is no terminal, or one that cannot be drawn on.
        ApidError: there is no daemon to begin with; one that goes away later is told on the screen.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("top needs a terminal; apidctl status --json is for programs")
    first = ask(FLIGHTS)
    locale.setlocale(locale.LC_CTYPE, "")
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        curses.wrapper(lambda screen: _Top(screen, ask, interval, first).show())
    except curses.error as error:
        raise ConfigError(f"top cannot draw on this terminal: {error}") from error
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise SystemExit(128 + signum)  # through curses.wrapper, which gives the terminal back


class _Top:
    def __init__(self, screen: curses.window, ask: Ask, interval: float, first: dict[str, Any]) -> None:
        self._screen = screen
        self._ask = ask
        self._interval = interval
        self._sample = Sample.of(None, first)
        self._view = View()
        self._trouble = ""
        self._resized = False
        self._attributes: dict[Tone, int] = {
            "plain": 0,
            "quiet": curses.A_DIM,
            "head": curses.A_BOLD,
            "bar": curses.A_REVERSE,
        }
        for number, (tone, colour) in enumerate(_COLOURS.items(), 1):
            self._attributes[tone] = curses.A_BOLD
            if curses.has_colors():
                curses.use_default_colors()
                curses.init_pair(number, colour, -1)
                self._attributes[tone] = curses.color_pair(number)

    def show(self) -> None:
        """Draw, wait for a key or the next picture, and again."""
        try:
            curses.curs_set(0)
        except curses.error:
            self._screen.leaveok(True)  # a terminal that cannot hide its cursor
        signal.signal(signal.SIGWINCH, self._note_resize)
        due = time.monotonic() + min(0.5, self._interval)
        while True:
            self._draw()
            self._screen.timeout(max(0, int((due - time.monotonic()) * 1000)))
            key = self._screen.getch()
            if key in (ord("q"), ord("Q")):
                return
            if self._resized:
                self._resize()
            elif key >= 0:
                name = _KEYS.get(key) or (chr(key) if key < 128 else "")
                self._view = self._view.press(name, max(1, self._screen.getmaxyx()[0] - 8))
            if time.monotonic() >= due:
                due = time.monotonic() + self._interval
                if not self._view.held:
                    self._look()

    def _note_resize(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._resized = True

    def _resize(self) -> None:
        """Apply the terminal's size and redraw the whole screen.

        The handler of curses only compares sizes. If the terminal shrinks and grows again before that comparison, it has lost
        lines that curses does not redraw.
        """
        self._resized = False
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        curses.resizeterm(max(1, lines), max(1, columns))
        self._screen.clear()

    def _look(self) -> None:
        try:
            self._sample = Sample.of(self._sample.now, self._ask(FLIGHTS))
            self._trouble = ""
        except ApidError as error:
            self._trouble = str(error)

    def _draw(self) -> None:
        height, width = self._screen.getmaxyx()
        self._screen.erase()
        for number, line in enumerate(top_screen.lines(self._sample, self._view, width, height, self._trouble)):
            self._put(number, line, width)
        self._screen.refresh()

    def _put(self, number: int, line: Line, width: int) -> None:
        at = 0
        for text, tone in line:
            cut = text[: max(0, width - 1 - at)]  # the last cell of the last line cannot be written to
            if cut:
                self._screen.addstr(number, at, cut, self._attributes[tone])
            at += len(cut)
