"""The molds of the generations: who has one, who needs one, when one is given up. Pure: state in, actions out.

A generation is one code. Its mold loads the application once, and all its workers are forked from there, however late they are
needed. If the mold is lost, a new one must have loaded the same; if that is no longer on the disk, the generation keeps the
workers that it has, and gets no others until a reload.
"""

from __future__ import annotations

import signal

from apid.parent import events
from apid.parent.dismissal import GONE_WITHIN
from apid.parent.events import Action
from apid.parent.phases import Phase
from apid.parent.state import Mold, State

FORKS_WITHIN = 10.0
"""Seconds from the order to the birth of a worker after which its mold is given up; it takes some milliseconds."""


def used(state: State, generation: int) -> bool:
    """Whether the workers of a generation are forked from a mold."""
    change = state.change
    daemon = change.daemon if change is not None and change.generation == generation else state.daemon
    return daemon is not None and daemon.preload != "off" and generation not in state.alone


def of(state: State, generation: int) -> Mold | None:
    """The mold of a generation, whether it loads, forks or has been killed; None while there is none."""
    return next((mold for mold in state.molds.values() if mold.generation == generation and not mold.dismissed), None)


def cast(state: State, generation: int, now: float) -> list[Action]:
    """Have a mold made, unless that is under way, or was tried a moment ago."""
    if generation in state.casting or of(state, generation) is not None:
        return []
    if generation == state.generation and state.molding.not_before > now:
        return []
    state.casting.add(generation)
    return [events.Cast(generation)]


def dismiss(state: State, generation: int, now: float) -> list[Action]:
    """End the mold of a generation; it serves nothing, so it is killed."""
    mold = of(state, generation)
    if mold is None:
        return []
    mold.dismissed = True
    return kill(mold, now)


def dismiss_all(state: State, now: float) -> list[Action]:
    """End every mold: they have mapped a scoreboard that is lost."""
    return [action for mold in state.molds.values() for action in dismiss(state, mold.generation, now)]


def kill(mold: Mold, now: float) -> list[Action]:
    """End it. One that has not ended within `GONE_WITHIN` is not waited for."""
    mold.killed, mold.deadline = True, now + GONE_WITHIN
    return [events.Kill(mold.pid, signal.SIGKILL)]


def dismiss_strays(state: State, now: float) -> list[Action]:
    """End the molds of generations that need no worker any more."""
    wanted = {state.change.generation} if state.change is not None else set()
    if state.phase in (Phase.STARTING, Phase.RUNNING, Phase.LEAVING):
        wanted.add(state.generation)
    actions: list[Action] = []
    for generation in {mold.generation for mold in state.molds.values()} - wanted:
        actions += dismiss(state, generation, now)
    return actions
