"""The seats of a generation, and the forks that fill them. Pure: state in, actions out.

The parent forks the workers of an application that each of them loads by itself. Those of a mold are forked one at a time: each
costs the mold some milliseconds, in which nothing is gained by a second order.
"""

from __future__ import annotations

import logging

from apid.parent import change_steps, ending, events, molds, polls
from apid.parent.children import Child
from apid.parent.events import Action, Say
from apid.parent.phases import Phase
from apid.parent.state import Mold, State


def fill(state: State, generation: int, wanted: int, now: float) -> list[Action]:
    """Fork for each empty seat of a generation, as far as back-off and the limit on all workers allow."""
    empty = [slot for slot in _empty(state, generation, wanted) if _due(state, generation, slot) <= now]
    empty = empty[: max(0, state.room())]
    if not empty:
        return []
    if not molds.used(state, generation):
        state.pending |= {(slot, generation, 0) for slot in empty}
        return [events.Spawn(slot, generation) for slot in empty]
    mold = molds.of(state, generation)
    if mold is None:
        return molds.cast(state, generation, now)
    if not mold.forks or _busy(state, mold):
        return []
    state.pending.add((empty[0], generation, mold.pid))
    mold.deadline = now + molds.FORKS_WITHIN
    return [events.Spawn(empty[0], generation, mold.pid)]


def _empty(state: State, generation: int, wanted: int) -> list[int]:
    mold = molds.of(state, generation) if molds.used(state, generation) else None
    asked = {slot for slot, of, by in state.pending if of == generation and by in (0, mold.pid if mold else 0)}
    return [slot for slot in range(wanted) if slot not in asked and not state.holders(generation, slot)]


def _busy(state: State, mold: Mold) -> bool:
    return any(by == mold.pid for _, _, by in state.pending)


def _due(state: State, generation: int, slot: int) -> float:
    return state.backoff(slot).not_before if generation == state.generation else 0.0


def deadlines(state: State) -> list[float]:
    """When `fill` has something to do that waits for time, in monotonic seconds."""
    if state.phase not in (Phase.STARTING, Phase.RUNNING, Phase.LEAVING) or state.room() <= 0:
        return []
    times = [_due(state, state.generation, slot) for slot in _empty(state, state.generation, state.wanted)]
    if times and molds.used(state, state.generation):
        mold = molds.of(state, state.generation)
        if mold is None:
            return [max(min(times), state.molding.not_before)]
        if not mold.forks or _busy(state, mold):
            return []  # it is heard when it has loaded, and when it has forked
    return times


def spawned(state: State, event: events.Spawned, now: float) -> list[Action]:
    """A worker was forked."""
    state.pending.discard((event.slot, event.generation, event.mold))
    child = Child(event.pid, event.slot, event.generation, event.row, spawned=now)
    boot = (state.change and state.change.daemon) or state.daemon
    child.deadline = now + boot.startup_timeout if boot.startup_timeout else 0.0
    members = {state.generation, state.change.generation if state.change else state.generation}
    mold = state.molds.get(event.mold)
    if mold is not None and mold.forks:
        mold.deadline, mold.fork = 0.0, event.took
    # with its mold gone, nobody knows any more which generation this number meant
    child.abandoned = event.generation not in members or (event.mold > 0 and (mold is None or not mold.forks))
    state.children.add(child)
    return polls.catch_up(state, child, now - event.took)


def spawn_failed(state: State, event: events.SpawnFailed, now: float) -> list[Action]:
    """No worker was forked: of a mold that is gone that is no news; otherwise it is a matter of the seat."""
    state.pending.discard((event.slot, event.generation, event.mold))
    mold = state.molds.get(event.mold)
    if event.mold and (mold is None or not mold.forks):
        return []
    if mold is not None and event.gone:
        return molds.kill(mold, now)
    if mold is not None:
        mold.deadline = 0.0
    reason = f"cannot fork a worker: {event.reason}"
    if state.rescuing():
        return [Say(logging.ERROR, reason), *ending.close(state, now)]
    if state.change is not None and event.generation == state.change.generation:
        return change_steps.fail(state, reason, now)
    pause = max(1.0, state.backoff(event.slot).died(now, 0.0, f"cannot fork: {event.reason}"))
    state.backoff(event.slot).not_before = now + pause
    about = {"worker": event.slot, "gen": event.generation}
    return [Say(logging.ERROR, f"{reason}; trying again in {pause:.0f} s", about)]
