"""Everything the parent knows of its daemon, as plain values: what the plan changes and what an upgrade carries over.

No clock, no descriptor, no process is touched here.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated

from apid.bounds import whole
from apid.conf.settings import Daemon
from apid.parent.backoff import GOOD, Backoff
from apid.parent.children import Child, Children
from apid.parent.events import Cause
from apid.parent.lifecycle import Stage
from apid.parent.phases import Command, Phase


class Step(enum.StrEnum):
    """How far a change has come."""

    PREPARING = "preparing"
    """Configuration is read, addresses are bound."""
    TRYING = "trying"
    """A throw-away child loads everything."""
    RAISING = "raising"
    """The new generation boots beside the old one."""


@dataclasses.dataclass(slots=True)
class Change:
    """A reload or an upgrade under way.

    Attributes:
        kind: `reload` or `upgrade`. generation: the one to be. askers: control connections that wait for the verdict.
        deadline: monotonic seconds by which the present step must be over; 0: none.
        trial: pid of the throw-away child; 0: none. passed: it has said Ready. told: what it said of its failure.
        daemon, wanted: the new generation's settings and number of workers; known after PREPARING.
        deaths: how many of its workers ended after they were ready.
        tried: the pipelines were loaded on trial already (by the preflight of an upgrade).
        former, going: the generation that a commit replaced, and the pids of its workers that were told to drain then.
    """

    kind: str
    generation: int
    started: float
    askers: list[int] = dataclasses.field(default_factory=list)
    step: Step = Step.PREPARING
    deadline: float = 0.0
    trial: int = 0
    passed: bool = False
    told: str = ""
    detail: str = ""
    daemon: Daemon | None = None
    wanted: int = 0
    tried: bool = False
    deaths: int = 0
    former: int = 0
    going: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class Poll:
    """A question put to several workers at once (reopen, dump): who asked, who has not answered, until when."""

    kind: str
    who: int | None
    pending: set[int]
    deadline: float
    errors: list[str] = dataclasses.field(default_factory=list)
    note: str = ""
    """What is added to a good answer."""
    verdict: str = ""
    """What is answered once nobody is pending, in time or not: the verdict of a change, which waits until the old workers accept
    no more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """How the last change ended, for `status` and the log."""

    kind: str
    ok: bool
    text: str
    generation: int
    seconds: float
    at: float
    """Monotonic seconds."""
    deaths: int = 0
    """Workers of its generation that ended by themselves soon after it."""
    last_death: str = ""
    """How the last one of these ended."""


@dataclasses.dataclass(slots=True)
class Mold:
    """A process that loads the application of a generation, and forks its workers if nothing speaks against that.

    Attributes:
        spawned, ready: monotonic seconds; ready is 0 until it has loaded.
        deadline: monotonic seconds of its next escalation: of the load, of a fork, of its end; 0: none.
        code: stands for what it has loaded.
        passed: it has loaded what cannot be forked, and is about to end.
        told, detail: why it failed.
        killed: it was sent SIGKILL. dismissed: nobody waits for anything of it.
        load, fork: seconds that it took to load, and that its last worker took to be born.
    """

    pid: Annotated[int, whole(2, 2**31 - 1)]
    generation: int
    spawned: float
    ready: float = 0.0
    deadline: float = 0.0
    code: str = ""
    passed: bool = False
    told: str = ""
    detail: str = ""
    killed: bool = False
    dismissed: bool = False
    load: float = 0.0
    fork: float = 0.0

    @property
    def forks(self) -> bool:
        """Whether it can be asked for workers."""
        return self.ready > 0 and not self.killed


@dataclasses.dataclass(slots=True)
class State:
    """See the module."""

    daemon: Daemon
    started: float
    wanted: int
    phase: Phase = Phase.STARTING
    generation: int = 1
    children: Children = dataclasses.field(default_factory=Children)
    pending: set[tuple[int, int, int]] = dataclasses.field(default_factory=set)
    """(slot, generation, pid of the mold or 0) of forks that were asked for and not answered yet."""
    molds: dict[int, Mold] = dataclasses.field(default_factory=dict)
    """By pid."""
    casting: set[int] = dataclasses.field(default_factory=set)
    """Generations for which a mold was asked for; answered within the same turn."""
    alone: set[int] = dataclasses.field(default_factory=set)
    """Generations whose application is not fork-safe: each worker loads it by itself."""
    codes: dict[int, str] = dataclasses.field(default_factory=dict)
    """What stands for the code of each generation that comes from a mold."""
    molding: Backoff = dataclasses.field(default_factory=Backoff)
    """The history of the present generation's molds."""
    outdated: str = ""
    """Why the present generation gets no new mold, and so no new workers, until a reload; or empty."""
    backoffs: dict[int, Backoff] = dataclasses.field(default_factory=dict)
    change: Change | None = None
    committed: Change | None = None
    """A change that is past its commit; its verdict waits for the outcome of that action, within the same turn."""
    queued: list[tuple[str, int | None]] = dataclasses.field(default_factory=list)
    """(kind, who) of changes asked for during a change; they become one."""
    verdict: Verdict | None = None
    history: list[Verdict] = dataclasses.field(default_factory=list)
    recycling: int = 0
    """Pid of the one worker that is being replaced at its own wish; 0: none."""
    polls: list[Poll] = dataclasses.field(default_factory=list)
    reopened: float = -1.0
    """When the logs were last reopened: a worker that was ordered before, and comes later, may have missed it."""
    scaled: list[tuple[Command, int]] = dataclasses.field(default_factory=list)
    """(command, number) of what was said about the number of workers since a reload was last asked for: it applies to the
    number that the reload reads, for it was said later."""
    scalers: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    """(who, number) of scale commands whose verdict is due; the number is 0 where it was relative."""
    stoppers: list[int] = dataclasses.field(default_factory=list)
    ever_ready: bool = False
    boot_deaths: int = 0
    leave_at: float = 0.0
    waiting: int | None = None
    """Connections in the accept queues when a stop found no worker ready to answer them; None: it did not look."""
    abandoning: bool = False
    """The accept queues are being closed unanswered; how many connections that costs is known at once."""
    cut: int = 0
    """Requests and queued connections that this stop has lost."""
    killed: int = 0
    """Workers that this stop's drain had to kill."""
    exit_code: int = 0
    exit_reason: str = ""
    ends: dict[str, int] = dataclasses.field(default_factory=dict)
    """How many workers have ended, by cause."""
    changes: dict[str, int] = dataclasses.field(default_factory=dict)
    """How many changes there were, by kind and verdict: `reload ok`."""
    last_end: dict[int, str] = dataclasses.field(default_factory=dict)
    """The cause of the last end in each slot."""

    def holders(self, generation: int, slot: int) -> list[Child]:
        """Who holds a seat: booting or ready, not hung, and not about to be replaced by a successor."""
        return [
            child
            for child in self.children.of(generation, slot=slot)
            if child.serving and child.pid != self.recycling and child.cause != Cause.HUNG
        ]

    def ready(self, generation: int) -> set[int]:
        """The seats of a generation that have a ready worker which is not hung; seats past the wanted number included."""
        return {child.slot for child in self.children.of(generation, stage=Stage.READY) if child.cause != Cause.HUNG}

    def complete(self, generation: int, wanted: int) -> bool:
        """Whether each of the seats 0..wanted-1 of a generation has a ready worker."""
        return self.ready(generation).issuperset(range(wanted))

    def patient(self) -> bool:
        """Whether the start is still waited for, and judged: not while a reload may mend it, nor once workers come and go."""
        judged = not self.ever_ready or bool(self.ready(self.generation))
        return self.phase is Phase.STARTING and self.change is None and judged

    def answering(self) -> bool:
        """Whether any worker, of whichever generation, accepts connections."""
        return any(child.stage is Stage.READY and child.cause != Cause.HUNG for child in self.children)

    def rescuing(self) -> bool:
        """Whether a stop raises workers for what waits in the accept queues."""
        return self.phase is Phase.LEAVING and bool(self.waiting)

    def backoff(self, slot: int) -> Backoff:
        """The history of a slot."""
        return self.backoffs.setdefault(slot, Backoff())

    def degraded(self, now: float) -> bool:
        """Whether a slot keeps failing (two short lives in a row, nobody well in it for GOOD seconds), or cannot be filled."""
        if self.outdated:
            return True
        for slot, backoff in self.backoffs.items():
            if slot < self.wanted and backoff.failures >= 2 and all(now < at for at in self._well_at(slot)):
                return True
        return False

    def recovers(self, now: float) -> list[float]:
        """The moments at which a slot will no longer be called failing, unless something happens before."""
        failing = [slot for slot, backoff in self.backoffs.items() if slot < self.wanted and backoff.failures >= 2]
        return [at for slot in failing for at in self._well_at(slot) if at > now]

    def _well_at(self, slot: int) -> list[float]:
        return [child.ready + GOOD for child in self.holders(self.generation, slot) if child.stage is Stage.READY]

    def room(self) -> int:
        """How many more workers may be forked: never more than twice as many as are wanted in all.

        Surplus workers after a scale down are not counted: whether they drain or still serve, the remaining seats must be filled.
        """
        wanted = max(self.wanted, self.change.wanted if self.change else 0, 1)
        leaving = sum(not child.serving for child in self.children)
        return wanted + max(wanted, leaving) + self.surplus() - len(self.children) - len(self.pending)

    def surplus(self) -> int:
        """Number of booting or ready workers in seats past the wanted number of their generation."""
        wanted = {self.generation: self.wanted}
        if self.change is not None:
            wanted[self.change.generation] = self.change.wanted
        return sum(
            child.serving and not child.abandoned and child.slot >= wanted.get(child.generation, child.slot + 1)
            for child in self.children
        )
