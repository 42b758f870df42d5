"""How workers are ordered to leave. Pure: state in, actions out."""

from __future__ import annotations

import logging
import signal

from apid.parent import events, polls
from apid.parent.children import Child
from apid.parent.events import Action, Cause, Say
from apid.parent.lifecycle import Stage, Turn
from apid.parent.phases import Phase, ending
from apid.parent.state import State

GRACE = 3.0
"""Seconds past its own deadline that a draining worker gets to say what it cut, before it is killed."""

GONE_WITHIN = 10.0
"""Seconds from SIGKILL until a worker that has not ended is given up. It executes nothing any more, but its end may never be
reported: to another process that traces it (ptrace(2)), or because it waits in the kernel for a file system of a user."""

NEVER_GONE = f"has not ended within {GONE_WITHIN:g} s after SIGKILL: given up (traced, or waiting in the kernel)"


def dismiss(state: State, child: Child, cause: str, now: float, *, successor: bool) -> list[Action]:
    """End one worker the right way for its stage: a ready one drains, a booting one, which serves no request, is killed.

    A hung worker cannot drain; its kill is already scheduled.
    """
    if child.stage is Stage.READY and child.cause != Cause.HUNG:
        child.turn(Turn.DRAIN)
        child.cause = cause
        timeout = state.daemon.graceful_shutdown_timeout
        child.deadline = now + timeout + GRACE if timeout else 0.0
        return [events.DrainWorker(child.pid, timeout, successor)]
    if child.stage is Stage.BOOTING:
        child.turn(Turn.KILL)
        child.cause, child.deadline = child.cause or cause, 0.0
        return [events.Kill(child.pid, signal.SIGKILL)]
    return []


def note_kills(state: State, actions: list[Action], now: float) -> None:
    """Note which workers are sent SIGKILL."""
    for action in actions:
        if isinstance(action, events.Kill) and action.signum == signal.SIGKILL:
            child = state.children.get(action.pid)
            if child is not None:
                child.gone_by = child.gone_by or now + GONE_WITHIN


def never_gone(state: State, now: float) -> list[Child]:
    """Return the workers that should have ended by SIGKILL."""
    return [child for child in state.children if 0 < child.gone_by <= now]


def dismiss_strays(state: State, now: float) -> list[Action]:
    """End late workers: forked for a change that failed meanwhile, or just before a stop or a quiesce."""
    wanted = {state.change.generation} if state.change is not None else set()
    if state.phase in (Phase.STARTING, Phase.RUNNING, Phase.LEAVING):
        wanted.add(state.generation)
    stopping = ending(state.phase)
    cause = Cause.STOP if stopping or state.phase is Phase.QUIESCED else Cause.RELOAD
    actions: list[Action] = []
    for child in state.children:
        # at a stop now each ready worker has been sent its signal already
        late = child.stage is Stage.BOOTING if state.phase is Phase.HALTING else child.serving
        if late and (child.abandoned or child.generation not in wanted):
            actions += dismiss(state, child, cause, now, successor=not stopping)
    return actions


def quiesce(state: State, was: Phase, who: int | None, now: float) -> list[Action]:
    """Drain all workers and keep the sockets (WINCH)."""
    if was is not Phase.RUNNING:
        text, going = "quiesced already", []
    else:
        text, going = "quiescing: workers drain, sockets stay open; HUP brings workers back", list(state.children)
    actions: list[Action] = [Say(logging.INFO, text), events.Leave(True)]
    for child in going:
        actions += dismiss(state, child, Cause.STOP, now, successor=True)
    actions += [events.Reply(one, False, "the daemon was quiesced") for one, _ in state.scalers]
    state.scalers.clear()
    if who is None:
        return actions
    draining = {child.pid for child in going if child.stage is Stage.DRAINING}
    return [*actions, *polls.hold(state, who, text, draining, now, ok=True)]
