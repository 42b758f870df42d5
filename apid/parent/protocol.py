"""The protocol between a worker and its parent: which messages are due, and how often. Pure: state in, actions out.

A worker sends a few messages in its life. An application that has taken over its worker can send anything at any time, so the
parent counts: the first packet that is no message, or message that is not due, ends the worker, and a flood with it.
"""

from __future__ import annotations

import logging
import signal

from apid import channel
from apid.parent import events
from apid.parent.children import Child
from apid.parent.events import Action, Cause, Say
from apid.parent.lifecycle import Stage
from apid.parent.phases import Phase, ending
from apid.parent.state import State

LEAVES_WITHIN = 70.0
"""Seconds from a last message (BootFailed, DrainDone) to the exit; exit functions take 60 at most."""

_FIRST = (channel.Ready, channel.BootFailed)
_LAST = (channel.BootFailed, channel.DrainDone)
_ANSWERS = {channel.Reopen: channel.Reopened, channel.Dump: channel.Dumped}


def asked(child: Child, question: channel.Message) -> None:
    """Note that a question is sent: one answer is due."""
    answer = _ANSWERS.get(type(question))
    if answer is not None:
        child.due[answer.__name__] = child.due.get(answer.__name__, 0) + 1


def judge(state: State, child: Child, event: events.Said | events.Violation, now: float) -> list[Action]:
    """Count a message; kill its worker for a violation of the protocol, and ignore whatever it sends afterwards."""
    if child.condemned:
        return []
    wrong = event.reason if isinstance(event, events.Violation) else _hear(child, event.message, now)
    if not wrong:
        return []
    child.condemned, child.deadline = True, 0.0
    if child.cause != Cause.HUNG:  # the seat of a hung worker is free already
        child.cause = ""  # the signal that ends it
    child.reason = f"protocol violation: {wrong}"
    state.killed += child.stage is Stage.DRAINING and state.phase is Phase.STOPPING
    return [Say(logging.ERROR, f"{child.reason}: killed", _about(child)), events.Kill(child.pid, signal.SIGKILL)]


def _hear(child: Child, message: channel.Message, now: float) -> str:
    """Count a message; return the violation, or an empty text."""
    name = type(message).__name__
    if not child.due.get(name):
        return f"{name} is not due"
    if child.stage is Stage.BOOTING and child.due.get(channel.Ready.__name__) and not isinstance(message, _FIRST):
        return f"{name} before {channel.Ready.__name__}"
    child.due[name] -= 1
    if isinstance(message, _LAST):
        end = now + LEAVES_WITHIN
        child.deadline = min(child.deadline or end, end)
    return ""


def lost(state: State, child: Child, message: channel.DrainDone) -> list[Action]:
    """Log the requests that a worker has named as lost with it."""
    if not message.cut:
        return []
    state.cut += len(message.cut) + message.more if ending(state.phase) else 0
    halted = state.phase is Phase.HALTING or child.stage is not Stage.DRAINING
    who = "the stop now" if halted else "the drain deadline"
    more = [f"and {message.more} more"] if message.more else []
    return [Say(logging.WARNING, f"{who} cut: {'; '.join([*message.cut, *more])}", _about(child))]


def _about(child: Child) -> dict[str, int]:
    return {"worker": child.slot, "gen": child.generation, "pid": child.pid}
