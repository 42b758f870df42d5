"""Coarse deadlines for many connections at next to no cost each: one set a tick, looked at when the tick has come.

A deadline that moves away costs one attribute: the connection is found at its old tick and put where it belongs. Only one that
comes nearer moves at once. So a busy keep-alive connection is touched once a keepalive_timeout, not once a request.
"""

from __future__ import annotations

from typing import Protocol

NEVER = float("inf")

GRAIN = 0.25
"""Seconds by which a deadline may be late at most."""


class Timed(Protocol):
    """What can have a deadline.

    Attributes:
        deadline: seconds of the monotonic clock, or NEVER.
        tick: kept by `TimerWheel`: where it waits, or -1.
    """

    deadline: float
    tick: int

    def expired(self) -> None:
        """The deadline is over; it may set another one."""


class TimerWheel:
    """Ticks of `grain` seconds; a deadline is never early and at most a grain late.

    Attributes:
        grain: seconds a tick; rate: ticks a second.
    """

    def __init__(self, grain: float, now: float) -> None:
        self.grain = grain
        self.rate = 1 / grain
        self._ticks: dict[int, set[Timed]] = {}
        self._last = int(now / grain)

    def set(self, thing: Timed, deadline: float) -> None:
        """Give a thing a deadline in place of the one it has.

        Where it waits at a tick that is not later (`0 <= thing.tick <= deadline * rate`), setting the attribute does the same.
        """
        thing.deadline = deadline
        if deadline == NEVER:
            return
        tick = max(int(deadline / self.grain), self._last) + 1
        if thing.tick >= 0:
            if thing.tick <= tick:
                return
            self._ticks[thing.tick].discard(thing)
        thing.tick = tick
        self._ticks.setdefault(tick, set()).add(thing)

    def drop(self, thing: Timed) -> None:
        """Forget a thing."""
        if thing.tick >= 0:
            self._ticks[thing.tick].discard(thing)
            thing.tick = -1

    def refine(self, grain: float) -> None:
        """Be more exact from now on."""
        things = [thing for tick in self._ticks.values() for thing in tick]
        self._ticks.clear()
        self._last = int(self._last * self.grain / grain)
        self.grain = grain
        self.rate = 1 / grain
        for thing in things:
            thing.tick = -1
            self.set(thing, thing.deadline)

    def turn(self, now: float) -> None:
        """Call `expired` of each thing whose deadline is over; to be called about once a grain."""
        last, self._last = self._last, int(now / self.grain)
        for tick in range(last + 1, self._last + 1):
            # Taken out one by one: what expires may drop others of this tick.
            due = self._ticks.get(tick)
            while due:
                thing = due.pop()
                thing.tick = -1
                if thing.deadline <= now:
                    thing.expired()
                else:
                    self.set(thing, thing.deadline)
            self._ticks.pop(tick, None)
