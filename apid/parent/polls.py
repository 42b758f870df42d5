"""Questions to all workers at once, and their verdict: reopen the logs, dump the stacks. Pure: state in, actions out."""

from __future__ import annotations

from apid import channel
from apid.parent import events, protocol
from apid.parent.children import Child
from apid.parent.events import Action
from apid.parent.lifecycle import Stage
from apid.parent.phases import Command
from apid.parent.state import Poll, State

PARENT = 0
"""Stands among the pids asked for the parent itself; the kernel gives it to no process that could be ours."""

PATIENCE = 5.0
"""Seconds that workers get to answer; one that hangs is named in the verdict."""


def begin(state: State, command: Command, who: int | None, now: float) -> list[Action]:
    """Ask every worker that serves or drains."""
    asked = [child for child in state.children if child.stage in (Stage.READY, Stage.DRAINING)]
    pending = {child.pid for child in asked} | ({PARENT} if command is Command.REOPEN else set())
    state.polls.append(Poll(command.value, who, pending, now + PATIENCE))
    question = channel.Reopen() if command is Command.REOPEN else channel.Dump()
    actions: list[Action] = [events.ReopenLogs()] if command is Command.REOPEN else []
    actions += [_put(child, question) for child in asked]
    if command is Command.REOPEN:
        state.reopened = now
        # It has opened the files already, perhaps before they were moved away; it hears this when it is ready.
        late = [child for child in state.children if child.stage is Stage.BOOTING]
        actions += [_put(child, question) for child in late]
        notes = [f"; worker {child.slot} still boots and reopens its logs when it is ready" for child in late]
        state.polls[-1].note = "".join(notes)
    return actions + _settle(state)


def catch_up(state: State, child: Child, ordered: float) -> list[Action]:
    """Have a worker that was ordered at that moment, and is born now, reopen its logs if it may have opened them before."""
    return [_put(child, channel.Reopen())] if ordered <= state.reopened else []


def _put(child: Child, question: channel.Message) -> Action:
    protocol.asked(child, question)
    return events.Tell(child.pid, question)


def answered(state: State, child: Child, message: channel.Reopened | channel.Dumped) -> list[Action]:
    """A worker has done it; its answer counts for the oldest question of the kind that waits for it."""
    kind = Command.REOPEN if isinstance(message, channel.Reopened) else Command.DUMP
    for poll in state.polls:
        if poll.kind == kind and child.pid in poll.pending:
            poll.pending.discard(child.pid)
            if message.error:
                poll.errors.append(f"worker {child.slot}: {message.error}")
            break
    return _settle(state)


def answered_by_parent(state: State, error: str) -> list[Action]:
    """The parent's own log was reopened, or could not be."""
    for poll in state.polls:
        if PARENT in poll.pending:
            poll.pending.discard(PARENT)
            if error:
                poll.errors.append(f"parent: {error}")
            break
    return _settle(state)


def hold(state: State, who: int, verdict: str, pids: set[int], now: float, *, ok: bool) -> list[Action]:
    """Answer `who` with the verdict of a commit once none of `pids` accepts connections any more (or hangs, and cannot)."""
    state.polls.append(Poll("drain", who, pids, now + PATIENCE, errors=[] if ok else [verdict], verdict=verdict))
    return _settle(state)


def deaf(state: State, child: Child) -> list[Action]:
    """A draining worker accepts no more."""
    for poll in state.polls:
        if poll.verdict:
            poll.pending.discard(child.pid)
    return _settle(state)


def lost(state: State, child: Child) -> list[Action]:
    """A worker that ended will not answer, and need not."""
    for poll in state.polls:
        poll.pending.discard(child.pid)
    return _settle(state)


def overdue(state: State, now: float) -> list[Action]:
    """Who has not answered by now is named."""
    for poll in state.polls:
        if now >= poll.deadline and poll.pending:
            late = poll.pending if not poll.verdict else set()
            slots = sorted({child.slot for child in state.children if child.pid in late})
            poll.errors += [f"worker {slot} did not answer within {PATIENCE:g} s" for slot in slots]
            if poll.verdict:
                poll.note = f"; {len(poll.pending)} of the old workers have not said that they accept no more"
            poll.pending.clear()
    return _settle(state)


def _settle(state: State) -> list[Action]:
    done = [poll for poll in state.polls if not poll.pending]
    state.polls = [poll for poll in state.polls if poll.pending]
    return [
        events.Reply(
            poll.who, not poll.errors, "; ".join(poll.errors) or f"{poll.verdict or f'{poll.kind}: done'}{poll.note}"
        )
        for poll in done
        if poll.who is not None
    ]
