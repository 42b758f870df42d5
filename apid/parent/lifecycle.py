"""A worker's states as the parent sees them: one table, and nothing that performs anything.

Spawned is not ready: a BOOTING worker has been forked, a READY one has said that it serves. READY ends in DRAINING (it was
told to finish) or in KILLED (it was sent SIGKILL); every state ends in GONE, for a process can always die. What cannot happen
is not in the table, and `after` says so.
"""

from __future__ import annotations

import enum


class Stage(enum.StrEnum):
    """Where a worker is in its life."""

    BOOTING = "booting"
    READY = "ready"
    DRAINING = "draining"
    KILLED = "killed"
    GONE = "gone"


class Turn(enum.StrEnum):
    """What can happen to a worker."""

    READY = "said ready"
    DRAIN = "told to drain"
    KILL = "sent SIGKILL"
    EXIT = "ended"


TABLE: dict[tuple[Stage, Turn], Stage] = {
    (Stage.BOOTING, Turn.READY): Stage.READY,
    (Stage.BOOTING, Turn.KILL): Stage.KILLED,
    (Stage.BOOTING, Turn.EXIT): Stage.GONE,
    (Stage.READY, Turn.DRAIN): Stage.DRAINING,
    (Stage.READY, Turn.KILL): Stage.KILLED,
    (Stage.READY, Turn.EXIT): Stage.GONE,
    (Stage.DRAINING, Turn.KILL): Stage.KILLED,
    (Stage.DRAINING, Turn.EXIT): Stage.GONE,
    # its last words may be read after the signal went out
    (Stage.KILLED, Turn.READY): Stage.KILLED,
    (Stage.KILLED, Turn.KILL): Stage.KILLED,
    (Stage.KILLED, Turn.EXIT): Stage.GONE,
}


class ImpossibleTurnError(Exception):
    """A turn that the table does not have: a bug of apid."""


def after(stage: Stage, turn: Turn) -> Stage:
    """Return the stage that follows.

    Raises:
        ImpossibleTurnError: the table has no such turn.
    """
    try:
        return TABLE[stage, turn]
    except KeyError:
        raise ImpossibleTurnError(f"a {stage} worker cannot be {turn}") from None
