"""The number of workers, as told by TTIN, TTOU and `apidctl scale`. Pure: state in, actions out."""

from __future__ import annotations

import logging

from apid.conf.settings import MOST_WORKERS
from apid.parent import events
from apid.parent.dismissal import dismiss
from apid.parent.events import Action, Asked, Cause, Say
from apid.parent.lifecycle import Stage
from apid.parent.phases import Command
from apid.parent.state import State


def ask(state: State, event: Asked) -> list[Action]:
    """Want another number of workers from now on; a change that is under way gets it too."""
    change = state.change if state.change is not None and state.change.wanted else None
    number = _told(change.wanted if change else state.wanted, event)
    if not 1 <= number <= MOST_WORKERS:
        text = f"{number} workers refused: 1 to {MOST_WORKERS} are possible"
        refused: list[Action] = [Say(logging.WARNING, text)]
        return [*refused, events.Reply(event.who, False, text)] if event.who is not None else refused
    state.wanted = min(max(_told(state.wanted, event), 1), MOST_WORKERS)
    if change:
        change.wanted = number
    if state.change is not None or state.queued:
        state.scaled.append((event.command, event.number))
    overruled = [who for who, told in state.scalers if told not in (0, number)]
    state.scalers = [(who, told) for who, told in state.scalers if told in (0, number)]
    if event.who is not None:
        state.scalers.append((event.who, number if event.command is Command.SCALE else 0))
    text = f"{number} workers are wanted now"
    told: list[Action] = [events.Reply(who, False, f"overruled: {text}") for who in overruled]
    return [Say(logging.INFO, f"workers: {number} wanted from now on"), *told]


def after_reload(state: State, configured: int) -> int:
    """Return how many workers a reload raises: as many as its configuration says, and what was ordered since the request."""
    number = max(1, configured)
    for command, told in state.scaled:
        number = min(max(_told(number, Asked(command, number=told)), 1), MOST_WORKERS)
    return number


def surplus(state: State, generation: int, wanted: int, now: float) -> list[Action]:
    """Dismiss the workers of a generation in seats past the wanted number, the highest seat first.

    A booting worker is dismissed at once. A ready worker is dismissed only if `wanted` other seats are ready, because the seats
    below it may still be booting.
    """
    actions: list[Action] = []
    spare = len(state.ready(generation)) - wanted
    for child in sorted(state.children.of(generation), key=lambda child: child.slot, reverse=True):
        if child.slot < wanted or not child.serving or child.cause == Cause.HUNG:
            continue
        if child.stage is Stage.READY:
            if spare <= 0:
                continue
            spare -= 1
        actions += dismiss(state, child, Cause.SCALE, now, successor=True)
    return actions


def fail(state: State, slot: int, now: float) -> list[Action]:
    """Tell those who asked that the worker of a slot does not boot, and what is done about it: it is tried again."""
    done, state.scalers = state.scalers, []
    backoff = state.backoff(slot)
    pause = max(0.0, backoff.not_before - now)
    again = (
        f"{state.wanted} remain wanted, and worker {slot} is tried again {f'in {pause:.0f} s' if pause else 'at once'}"
    )
    ready = f"{len(state.ready(state.generation))} of {state.wanted} workers are ready"
    return [events.Reply(who, False, f"{ready}: worker {slot} failed ({backoff.why}); {again}") for who, _ in done]


def settle(state: State, now: float) -> list[Action]:
    """Answer those who asked, once the workers are there and the surplus leaves; or once a seat stays empty."""
    if not state.scalers or state.change is not None:
        return []
    for slot in range(state.wanted):
        if state.outdated and not state.holders(state.generation, slot):
            state.backoff(slot).why = f"generation {state.generation} gets no new workers: {state.outdated}; reload"
            return fail(state, slot, now)
        if not state.holders(state.generation, slot) and state.backoff(slot).not_before > now:
            return fail(state, slot, now)
    serving = [child for child in state.children.of(state.generation) if child.serving]
    if len(serving) != state.wanted or not state.complete(state.generation, state.wanted):
        return []
    done, state.scalers = state.scalers, []
    text = f"{state.wanted} workers are ready"
    overruled = f"overruled by a reload: {state.wanted} workers are wanted now, and ready"
    return [
        events.Reply(who, good, text if good else overruled)
        for who, number in done
        for good in [number in (0, state.wanted)]
    ]


def _told(number: int, event: Asked) -> int:
    return {Command.GROW: number + 1, Command.SHRINK: number - 1}.get(event.command, event.number)
