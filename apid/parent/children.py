"""Who is alive: the parent's children by pid, by slot and by generation. Values only; nothing here forks or kills."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated

from apid.bounds import whole
from apid.parent.lifecycle import Stage, Turn, after
from apid.scoreboard import ROWS

WORDS = {"Ready": 1, "BootFailed": 1, "RecycleAsked": 1, "Draining": 1, "DrainDone": 2}
"""How often a worker sends each message without being asked; a stop now during a drain makes a second DrainDone."""


@dataclasses.dataclass(slots=True)
class Child:
    """One worker, from the fork to its last wait.

    Attributes:
        slot: its seat, 0 to workers-1; it survives a respawn. generation: of the configuration and code it runs.
        row: its row of the scoreboard.
        spawned, ready: monotonic seconds; ready is 0 until it is.
        deadline: monotonic seconds of the next escalation: end of boot, of the drain; 0: none.
        cause: why it is ending, from the closed set of `Cause`; empty while it is not to end.
        asked: why it wants to be recycled, or empty.
        stalled: it was reported as not beating; said once a stall.
    """

    pid: Annotated[int, whole(2, 2**31 - 1)]
    slot: Annotated[int, whole(0, ROWS)]
    generation: int
    row: Annotated[int, whole(0, ROWS - 1)]
    spawned: float
    stage: Stage = Stage.BOOTING
    ready: float = 0.0
    deadline: float = 0.0
    cause: str = ""
    asked: str = ""
    stalled: bool = False
    reason: str = ""
    """What it said of its failed boot."""
    abandoned: bool = False
    """It belongs to a change that failed, and to no generation any more: the number of that one is given again."""
    accounted: bool = False
    """It has named the requests that are lost with it, or said that there are none."""
    due: dict[str, int] = dataclasses.field(default_factory=lambda: dict(WORDS))
    """How many of each message are still due (apid.parent.protocol)."""
    condemned: bool = False
    """It was killed for a violation of the protocol; its messages are ignored."""
    gone_by: float = 0.0
    """Monotonic seconds when it is given up if it has not ended; 0: it was not sent SIGKILL."""

    def turn(self, turn: Turn) -> None:
        """Go on in the table of `lifecycle`."""
        self.stage = after(self.stage, turn)

    @property
    def serving(self) -> bool:
        """Booting or ready: it holds its seat."""
        return self.stage in (Stage.BOOTING, Stage.READY)


class Children:
    """All workers that have been forked and not yet reaped."""

    def __init__(self, children: list[Child] | None = None) -> None:
        self._by_pid = {child.pid: child for child in children or ()}

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_pid.values()))

    def __len__(self) -> int:
        return len(self._by_pid)

    def __contains__(self, pid: int) -> bool:
        return pid in self._by_pid

    def add(self, child: Child) -> None:
        """Note a fork."""
        if child.pid in self._by_pid:
            raise ValueError(f"process {child.pid} is a child already")
        self._by_pid[child.pid] = child

    def remove(self, pid: int) -> Child:
        """Forget a child that was reaped; raises KeyError when it is none."""
        return self._by_pid.pop(pid)

    def get(self, pid: int) -> Child | None:
        """The child of this pid, or None."""
        return self._by_pid.get(pid)

    def of(self, generation: int, *, slot: int | None = None, stage: Stage | None = None) -> list[Child]:
        """Those of a generation, oldest first, without those of a failed change; narrowed by slot and stage."""
        return [
            child
            for child in self._by_pid.values()
            if child.generation == generation
            and not child.abandoned
            and (slot is None or child.slot == slot)
            and (stage is None or child.stage is stage)
        ]

    def statistics(self) -> dict[str, int]:
        """How many there are in each stage."""
        return {stage.value: sum(child.stage is stage for child in self) for stage in Stage if stage is not Stage.GONE}

    def __repr__(self) -> str:
        return f"<Children {self.statistics()}>"
