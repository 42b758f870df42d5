"""What a worker may say, in which order and how often; one that says anything else is killed. Pure: state in, actions out.

A worker of apid says a few words in its life. An application that has taken over its worker may say anything at any time, so the
parent counts: a message that is not due costs the worker its life, and no flood lasts longer than one message.
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
"""Seconds that a worker has after its last words (BootFailed, DrainDone): exit functions take 60 at most."""

_FIRST = (channel.Ready, channel.BootFailed)
_LAST = (channel.BootFailed, channel.DrainDone)
_ANSWERS = {channel.Reopen: channel.Reopened, channel.Dump: channel.Dumped}


def asked(child: Child, question: channel.Message) -> None:
    """A question was sent: one answer is due."""
    answer = _ANSWERS.get(type(question))
    if answer is not None:
        child.due[answer.__name__] = child.due.get(answer.__name__, 0) + 1


def judge(state: State, child: Child, event: events.Said | events.Babbled, now: float) -> list[Action]:
    """Count a message. Kill its worker if it was not due, or was no message at all: nothing that it says later counts."""
    if child.outlawed:
        return []
    wrong = event.reason if isinstance(event, events.Babbled) else _hear(child, event.message, now)
    if not wrong:
        return []
    child.outlawed, child.deadline = True, 0.0
    child.cause = (
        child.cause if child.cause == Cause.HUNG else ""
    )  # its seat is free already; otherwise how it ends is the cause
    child.reason = f"it sent what no worker sends: {wrong}"
    state.killed += child.stage is Stage.DRAINING and state.phase is Phase.STOPPING
    return [Say(logging.ERROR, f"{child.reason}: killed", _about(child)), events.Kill(child.pid, signal.SIGKILL)]


def _hear(child: Child, message: channel.Message, now: float) -> str:
    """Count a message; returns what is wrong with it."""
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
    """A worker has named the requests that end with it."""
    if not message.cut:
        return []
    state.cut += len(message.cut) + message.more if ending(state.phase) else 0
    halted = state.phase is Phase.HALTING or child.stage is not Stage.DRAINING
    who = "the stop now" if halted else "the drain deadline"
    more = [f"and {message.more} more"] if message.more else []
    return [Say(logging.WARNING, f"{who} cut: {'; '.join([*message.cut, *more])}", _about(child))]


def _about(child: Child) -> dict[str, int]:
    return {"worker": child.slot, "gen": child.generation, "pid": child.pid}
