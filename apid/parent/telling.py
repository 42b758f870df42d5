"""What others learn of the daemon without asking: bulletin, status line and watchdog of the service manager, title in ps."""

from __future__ import annotations

import time

import setproctitle

from apid.bulletin import Bulletin
from apid.parent import report
from apid.parent.effects import Effects
from apid.parent.lifecycle import Stage
from apid.parent.phases import ending
from apid.parent.state import State


class Telling:
    """Tells what has changed since the last call."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._notifier = effects.notifier
        self._bulletin = Bulletin(effects.board.bulletin)
        self._watchdog_at = 0.0
        self._status = ""

    def due(self) -> float | None:
        """When `beat` has something to do, in monotonic seconds."""
        return self._watchdog_at if self._notifier.watchdog else None

    def beat(self, state: State, now: float) -> None:
        """Tell the service manager that the daemon is well, or that its stop needs more time."""
        if self._notifier.watchdog and now >= self._watchdog_at:
            # Honest: the loop turns, and unless nobody is meant to serve, somebody does.
            children = [child for child in state.children if child.stage is Stage.READY]
            well = not children or any(not child.stalled for child in children)
            if well:
                self._notifier.send("WATCHDOG=1")
            self._watchdog_at = now + self._notifier.watchdog / 3
        if self._notifier.address and ending(state.phase):
            self._notifier.send("EXTEND_TIMEOUT_USEC=5000000")

    def publish(self, state: State) -> None:
        """Tell everybody how the daemon is."""
        facts = report.facts(state, self._effects, time.monotonic())
        line = facts["line"]
        if line != self._status:
            self._status = line
            self._notifier.send(f"STATUS={line}")
            setproctitle.setproctitle(f"apid: parent ({line})")
        self._bulletin.publish(facts)
