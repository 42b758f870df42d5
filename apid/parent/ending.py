"""How the daemon comes to its end: stop, stop now, giving up. Pure: state in, actions out."""

from __future__ import annotations

import logging
import signal

from apid.errors import ExitCode
from apid.parent import change_steps, events
from apid.parent.dismissal import dismiss
from apid.parent.events import Action, Cause, Say
from apid.parent.lifecycle import Stage, Turn
from apid.parent.phases import Phase
from apid.parent.state import State

NOW = 1.0
"""Seconds that a stop now gives workers to flush their logs."""


def begin(state: State, was: Phase, now: float) -> list[Action]:
    """A stop was asked for; `state.phase` is the new phase, `was` the old one."""
    if state.phase is was:
        return []
    actions: list[Action] = []
    if state.change is not None:
        actions += change_steps.fail(state, "the daemon was told to stop", now)
    for _, who in state.queued:
        if who is not None:
            actions.append(events.Reply(who, False, "the daemon was told to stop"))
    state.queued.clear()
    actions += [events.Reply(who, False, "the daemon was told to stop") for who, _ in state.scalers]
    state.scalers.clear()
    if was not in (Phase.LEAVING, Phase.STOPPING):
        actions += [events.Leave(True), events.Announce("stopping")]
    if state.phase is Phase.LEAVING:
        if state.daemon.drain_delay <= 0:
            state.phase = Phase.STOPPING
            return actions + drain_all(state, now)
        state.leave_at = now + state.daemon.drain_delay
        text = f"stopping: the health check fails from now on; workers drain in {state.daemon.drain_delay:g} s"
        actions.append(Say(logging.INFO, text))
        return actions
    if state.phase is Phase.STOPPING:
        return actions + drain_all(state, now)
    return actions + _halt(state, now)


def drain_all(state: State, now: float) -> list[Action]:
    """Stop listening, and have every worker answer what is queued and finish what is in flight."""
    ready = sum(child.stage is Stage.READY for child in state.children)
    timeout = state.daemon.graceful_shutdown_timeout
    text = f"stopping: {ready} workers drain" + (f", {timeout:g} s at most" if timeout else "")
    # The parent's own copies go first: the sockets then close for good when the last worker has emptied the queue.
    actions: list[Action] = [Say(logging.INFO, text), events.Unlisten()]
    for child in state.children:
        actions += dismiss(state, child, Cause.STOP, now, successor=False)
    return actions


def _halt(state: State, now: float) -> list[Action]:
    actions: list[Action] = [Say(logging.INFO, "stopping now"), events.Unlisten()]
    for child in state.children:
        child.cause = child.cause or Cause.STOP
        if child.stage is Stage.BOOTING:
            child.turn(Turn.KILL)
            actions.append(events.Kill(child.pid, signal.SIGKILL))
        elif child.stage is not Stage.KILLED:
            child.deadline = now + NOW
            actions.append(events.Kill(child.pid, signal.SIGQUIT))
    return actions


def give_up(state: State, code: ExitCode, reason: str, detail: str, now: float) -> list[Action]:
    """A start that cannot succeed: end everybody and leave with `code`."""
    if state.exit_code:
        return []
    state.exit_code, state.exit_reason = code, reason
    was, state.phase = state.phase, Phase.HALTING
    return [Say(logging.CRITICAL, reason, detail=detail), *begin(state, was, now)]


def finish(state: State) -> list[Action]:
    """Once the last child is gone, so is the parent."""
    if len(state.children) or state.pending or state.phase in (Phase.LEAVING, Phase.ENDED):
        return []
    code = state.exit_code or (ExitCode.CUT if state.cut and state.phase is Phase.STOPPING else ExitCode.OK)
    state.phase = Phase.ENDED
    text = "stopped" if not state.cut else f"stopped; {state.cut} requests were cut"
    replies: list[Action] = [events.Reply(who, code == ExitCode.OK, text) for who in state.stoppers]
    return [*replies, Say(logging.INFO, text), events.End(code, state.exit_reason)]
