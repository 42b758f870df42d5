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

RESCUE = 60.0
"""Seconds that a stop waits at most for a worker that answers the accept queues; startup_timeout and graceful_shutdown_timeout
shorten it."""

TRIES_AT_START = 3
"""Deaths during boot after which a daemon that has never had a ready worker gives up."""

STOPPED = "the daemon was told to stop"


def begin(state: State, was: Phase, now: float, why: str = STOPPED) -> list[Action]:
    """A stop was asked for; `state.phase` is the new phase, `was` the old one; `why` is for those who wait for something else."""
    if state.phase is was:
        return []
    actions: list[Action] = []
    if state.change is not None:
        actions += change_steps.fail(state, why, now)
    waiting = [who for _, who in state.queued if who is not None] + [who for who, _ in state.scalers]
    actions += [events.Reply(who, False, why) for who in waiting]
    state.queued.clear()
    state.scalers.clear()
    if was not in (Phase.LEAVING, Phase.STOPPING):
        actions += [events.Leave(True), events.Announce("stopping")]
    if state.phase is not Phase.LEAVING:
        return actions + _halt(state, now)
    if state.daemon.drain_delay <= 0 or not state.answering():
        return actions + close(state, now)
    state.leave_at = now + state.daemon.drain_delay
    text = f"stopping: the health check fails from now on; workers drain in {state.daemon.drain_delay:g} s"
    return [*actions, Say(logging.INFO, text)]


def close(state: State, now: float) -> list[Action]:
    """Drain; but where no worker is ready, look first whether connections wait for one."""
    if state.answering() or state.waiting is not None:
        state.phase = Phase.STOPPING
        return drain_all(state, now)
    state.waiting = 0
    limits = [limit for limit in (state.daemon.startup_timeout, state.daemon.graceful_shutdown_timeout) if limit]
    state.leave_at = now + min([RESCUE, *limits])
    return [events.LookAtQueues()]


def note(state: State, event: events.Queued | events.Abandoned, now: float) -> list[Action]:
    """Take note of what waits, or was lost, in the accept queues."""
    return _abandoned(state, event) if isinstance(event, events.Abandoned) else _looked(state, event, now)


def _looked(state: State, event: events.Queued, now: float) -> list[Action]:
    """Nothing waits: drain. Something waits: the generation's workers are raised, or go on booting, to answer it."""
    if state.phase is not Phase.LEAVING or state.waiting is None:
        return []
    if not event.waiting:
        return close(state, now)
    state.waiting = event.waiting
    state.backoffs.clear()
    text = f"stopping: {event.waiting} connections wait in the accept queues; workers boot to answer them"
    return [Say(logging.INFO, text)]


def drain_all(state: State, now: float) -> list[Action]:
    """Stop listening, and have every worker answer what is queued and finish what is in flight."""
    ready = sum(child.stage is Stage.READY for child in state.children)
    timeout = state.daemon.graceful_shutdown_timeout
    text = f"stopping: {ready} workers drain" + (f", {timeout:g} s at most" if timeout else "")
    # The parent's own copies go first: the sockets then close for good when the last worker has emptied the queue.
    actions: list[Action] = [Say(logging.INFO, text), _unlisten(state, abandon=not state.answering())]
    for child in state.children:
        actions += dismiss(state, child, Cause.STOP, now, successor=False)
    return actions


def _halt(state: State, now: float) -> list[Action]:
    actions: list[Action] = [Say(logging.INFO, "stopping now"), _unlisten(state, abandon=True)]
    for child in state.children:
        child.cause = child.cause or Cause.STOP
        if child.stage is Stage.BOOTING:
            child.turn(Turn.KILL)
            actions.append(events.Kill(child.pid, signal.SIGKILL))
        elif child.stage is not Stage.KILLED:
            child.deadline = now + NOW
            actions.append(events.Kill(child.pid, signal.SIGQUIT))
    return actions


def _unlisten(state: State, *, abandon: bool) -> Action:
    state.abandoning = abandon
    return events.Unlisten(abandon)


def _abandoned(state: State, event: events.Abandoned) -> list[Action]:
    """The accept queues are closed: connections waiting there are lost, and the log and the exit code say so."""
    state.abandoning = False
    state.cut += event.waiting
    text = f"connections in the accept queues were lost: {event.waiting}"
    return [Say(logging.WARNING, text)] if event.waiting else []


def give_up(state: State, code: ExitCode, reason: str, detail: str, now: float) -> list[Action]:
    """A start that cannot succeed: end everybody and leave with `code`."""
    if state.exit_code:
        return []
    state.exit_code, state.exit_reason = code, reason
    was, state.phase = state.phase, Phase.HALTING
    return [Say(logging.CRITICAL, reason, detail=detail), *begin(state, was, now, reason)]


def finish(state: State) -> list[Action]:
    """Once the last child is gone, so is the parent."""
    if (
        len(state.children)
        or state.molds
        or state.pending
        or state.abandoning
        or state.phase in (Phase.LEAVING, Phase.ENDED)
    ):
        return []
    code = state.exit_code or (ExitCode.CUT if state.cut or state.killed else ExitCode.OK)
    state.phase = Phase.ENDED
    losses = {"requests lost": state.cut, "workers killed": state.killed}
    text = "; ".join(["stopped", *(f"{what}: {count}" for what, count in losses.items() if count)])
    replies: list[Action] = [events.Reply(who, code == ExitCode.OK, text) for who in state.stoppers]
    return [*replies, Say(logging.INFO, text), events.End(code, state.exit_reason)]
