"""What becomes of molds: they start, load, say so, fail and end. Pure: state in, actions out.

A mold of the generation to be is that change's trial: its failure is the change's. One of the present generation is made again,
at the start a few times, later for as long as workers are missing.
"""

from __future__ import annotations

import logging
import signal

from apid import channel
from apid.errors import ExitCode
from apid.parent import change_steps, ending, events, molds
from apid.parent.events import Action, Say
from apid.parent.phases import ending as is_ending
from apid.parent.state import Mold, State


def note(state: State, event: events.MoldStarted | events.CastFailed, now: float) -> list[Action]:
    """A mold was forked, or could not be."""
    state.casting.discard(event.generation)
    change, members = state.change, {state.generation}
    if change is not None:
        members.add(change.generation)
    if isinstance(event, events.MoldStarted):
        mold = Mold(event.pid, event.generation, now)
        daemon = (change and event.generation == change.generation and change.daemon) or state.daemon
        mold.deadline = now + daemon.startup_timeout if daemon.startup_timeout else 0.0
        state.molds[event.pid] = mold
        return [] if event.generation in members else molds.dismiss(state, event.generation, now)
    reason = f"cannot fork a mold: {event.reason}"
    if change is not None and event.generation == change.generation:
        return change_steps.fail(state, reason, now, event.detail)
    if event.generation != state.generation:
        return []
    if state.rescuing():
        return [Say(logging.ERROR, reason), *ending.close(state, now)]
    pause = max(1.0, state.molding.died(now, 0.0, reason))
    state.molding.not_before = now + pause
    return [Say(logging.ERROR, f"{reason}; trying again in {pause:.0f} s", detail=event.detail)]


def said(state: State, mold: Mold, event: events.Said | events.Violation, now: float) -> list[Action]:
    """Note the one message of a mold; anything more is a violation."""
    if mold.killed:
        return []
    if isinstance(event, events.Violation) or mold.ready or mold.passed or mold.told:
        wrong = event.reason if isinstance(event, events.Violation) else f"{type(event.message).__name__} is not due"
        mold.passed, mold.told, mold.detail = False, f"protocol violation of the mold: {wrong}", ""
        return molds.kill(mold, now)
    message = event.message
    if isinstance(message, channel.BootFailed):
        mold.told, mold.detail = message.reason or "it did not say why", message.detail
        if message.kind == "config" and not state.ever_ready and state.patient():
            return ending.give_up(state, ExitCode.CONFIG, mold.told, mold.detail, now)
    elif isinstance(message, channel.Ready) and message.stays:
        mold.code, mold.ready, mold.load, mold.deadline = message.code, now, now - mold.spawned, 0.0
        return _loaded(state, mold, now)
    elif isinstance(message, channel.Ready):
        mold.passed = True
    return []


def _loaded(state: State, mold: Mold, now: float) -> list[Action]:
    generation, known = mold.generation, state.codes.get(mold.generation)
    if state.change is not None and generation == state.change.generation:
        state.codes[generation] = mold.code
        return change_steps.loaded(state.change, now)
    if known is not None and not _same(known, mold.code) and (state.ever_ready or state.children.of(generation)):
        return _refuse(state, mold, "what is installed is not what its workers have loaded", now)
    state.codes[generation], state.outdated = mold.code, ""
    return [Say(logging.INFO, f"the application of generation {generation} is loaded after {mold.load:.2f} s")]


def _same(code: str, other: str) -> bool:
    """Whether two molds have loaded the same code: the files that both have read are the same.

    Args:
        code: a fingerprint, of four characters for the path of each file and four for its content.
        other: another one.
    """
    one, two = _contents(code), _contents(other)
    return all(one[path] & two[path] for path in one.keys() & two.keys())


def _contents(code: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for at in range(0, len(code), 8):
        found.setdefault(code[at : at + 4], set()).add(code[at + 4 : at + 8])
    return found


def _refuse(state: State, mold: Mold, why: str, now: float) -> list[Action]:
    """The present generation keeps its code: this mold may not be its next one. It is looked at again later."""
    first, state.outdated = not state.outdated, why
    pause = state.molding.died(now, 0.0, why)
    actions = molds.dismiss(state, mold.generation, now)
    text = f"generation {mold.generation} gets no new workers: {why}; reload (tried again in {pause:.0f} s)"
    return [Say(logging.ERROR if first else logging.WARNING, text, detail=mold.detail), *actions]


def ended(state: State, mold: Mold, code: int, now: float) -> list[Action]:
    """A mold is gone."""
    del state.molds[mold.pid]
    if mold.dismissed:
        return []
    how, change = ended_with(code), state.change
    if change is not None and mold.generation == change.generation:
        if mold.passed:
            state.alone.add(mold.generation)
            return change_steps.loaded(change, now)
        silent = f"its mold ended with {how}" if mold.ready else f"the mold ended with {how} and said nothing"
        return change_steps.fail(state, mold.told or silent, now, mold.detail)
    if mold.generation != state.generation or (is_ending(state.phase) and not state.rescuing()):
        return []
    mixed = mold.generation in state.codes and bool(state.children.of(mold.generation))  # others come from a mold
    if mold.passed and not state.ever_ready and not mixed:
        state.alone.add(mold.generation)
        return []
    if mold.ready:
        state.molding.died(now, now - mold.ready, how)
        text = f"the mold of generation {mold.generation} (pid {mold.pid}) ended: {mold.told or how}"
        return [Say(logging.WARNING, f"{text}; the next worker that is needed makes a new one")]
    reason = mold.told or f"the mold ended with {how} and said nothing"
    if state.rescuing():
        return [Say(logging.ERROR, reason, detail=mold.detail), *ending.close(state, now)]
    if state.ever_ready or mold.passed:
        why = (
            "its application cannot be forked any more"
            if mold.passed
            else f"its application does not load any more: {reason}"
        )
        return _refuse(state, mold, why, now)
    return _failed_at_start(state, mold, reason, now)


def _failed_at_start(state: State, mold: Mold, reason: str, now: float) -> list[Action]:
    pause = state.molding.died(now, 0.0, reason)
    state.boot_deaths += 1
    if state.boot_deaths >= ending.TRIES_AT_START and state.change is None:
        text = f"no worker ever became ready; the last one: {reason}"
        return ending.give_up(state, ExitCode.NO_WORKER, text, mold.detail, now)
    again = f"; the next one in {pause:.0f} s" if pause else ""
    return [Say(logging.ERROR, f"{reason}{again}", detail=mold.detail)]


def overdue(state: State, now: float) -> list[Action]:
    """Give up molds that load, fork or end too slowly."""
    actions: list[Action] = []
    for mold in list(state.molds.values()):
        if not mold.deadline or now < mold.deadline:
            continue
        if mold.killed:
            continue
        if mold.ready:
            mold.told = f"it has not forked a worker within {molds.FORKS_WITHIN:g} s"
        elif not mold.passed:
            mold.told = f"the application did not load within {mold.deadline - mold.spawned:g} s (startup_timeout)"
        actions += molds.kill(mold, now)
    return actions


def never_gone(state: State, now: float) -> list[Action]:
    """Give up molds that do not end: traced, or waiting in the kernel."""
    late = [mold for mold in state.molds.values() if mold.killed and now >= mold.deadline]
    return [action for mold in late for action in ended(state, mold, -signal.SIGKILL, now)]


def ended_with(code: int) -> str:
    """Return `exit code 3`, or `signal 9` for -9."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"
