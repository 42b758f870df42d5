"""Who does not beat: judges the heartbeats in the scoreboard without ever accusing anybody for the parent's own absence.

A worker writes its beat from its event loop, twice a second: a loop that cannot turn cannot beat. A worker of native threads
whose slots are all taken writes when the last request ended, however well its loop turns. The time between two looks of the
parent is judged as well. After a stop of the parent (SIGSTOP, a suspended machine, a starved CPU group) its clock has moved on
while nobody looked, so the first look only takes note, and a worker counts as hung when it was silent over at least two looks
that came in time.
"""

from __future__ import annotations

import dataclasses

LOOK = 0.5
"""Seconds between two looks while all is well."""

CLOSE_LOOK = 0.25
"""Seconds between two looks while somebody is silent."""

SILENT = 1.25
"""Seconds without a beat (they come every 0.5 s) from which a worker is called stalled."""

HELD_UP = 1.0
"""Seconds past its time after which a look counts as held up."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What a look found of one worker; `age` in seconds since its last beat."""

    pid: int
    age: float
    hung: bool
    silent: bool


@dataclasses.dataclass(slots=True)
class Watch:
    """Remembers who was silent at the last look, and when the next is due."""

    due: float = 0.0
    _silent: dict[int, tuple[float, int]] = dataclasses.field(default_factory=dict)
    """pid -> (beat, looks in time at which this same beat was the last)."""
    _odd: dict[int, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """pid -> (beat that no loop has written, when it was first seen)."""

    def look(self, now: float, beats: dict[int, float], timeout: float) -> list[Finding]:
        """Judge the beats (pid -> monotonic seconds of the last) at `now`; `timeout` 0 never calls anybody hung.

        Returns findings for those who are silent, and for those who were at the last look and beat again.
        """
        held_up = self.due > 0 and now - self.due > HELD_UP
        findings: list[Finding] = []
        silent: dict[int, tuple[float, int]] = {}
        for pid, beat in beats.items():
            age = self._age(pid, beat, now)
            if age < SILENT:
                if pid in self._silent:
                    findings.append(Finding(pid, age, False, False))
                continue
            before, looks = self._silent.get(pid, (beat, 0))
            looks = 0 if held_up or before != beat else looks + 1
            silent[pid] = (beat, looks)
            if not held_up:
                findings.append(Finding(pid, age, bool(timeout) and age >= timeout and looks >= 2, True))
        self._silent = silent
        self._odd = {pid: odd for pid, odd in self._odd.items() if pid in beats}
        self.due = now + (CLOSE_LOOK if silent else LOOK)
        return findings

    def _age(self, pid: int, beat: float, now: float) -> float:
        """Seconds since a beat. Nothing, or a moment to come, is none: the application has written there."""
        if 0 < beat <= now + SILENT:
            self._odd.pop(pid, None)
            return now - beat
        if self._odd.get(pid, (None,))[0] != beat:
            self._odd[pid] = beat, now
        return now - self._odd[pid][1]
