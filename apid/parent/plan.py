"""The plan: events in, actions out. No clock, no pid of its own, no I/O; what is here can be driven by random events in a test.

Theory of operation. Each event changes the `State`; then `_reconcile` compares what there is with what is wanted and returns
what is missing. Actions are performed by `effects`, and their outcome comes back as the next event, so that a fork that fails
and a worker that dies are the same kind of news. A change (reload, upgrade) raises a whole generation beside the present one
and commits only when each of its seats is ready; until then everything can be taken back (`change_steps`). How it ends is in
`ending`.
"""

from __future__ import annotations

import logging
import signal

from apid import channel
from apid.conf.settings import Daemon
from apid.errors import ExitCode
from apid.parent import change_steps, ending, events, molding, molds, polls, protocol, scaling, seats
from apid.parent.children import Child
from apid.parent.dismissal import NEVER_GONE, dismiss, dismiss_strays, never_gone, note_kills, quiesce
from apid.parent.events import Action, Asked, Cause, Event, Say
from apid.parent.lifecycle import Stage, Turn
from apid.parent.phases import NEXT, REFUSALS, Command, Phase
from apid.parent.phases import ending as is_ending
from apid.parent.state import State, Step

LAST_WORDS = 0.4
"""Seconds between the dump of a hung worker's stack and its kill."""


class Plan:
    """Decides. Feed it events in the order in which they happened; perform what it returns, in its order."""

    def __init__(self, state: State) -> None:
        self.state = state

    @classmethod
    def new(cls, daemon: Daemon, now: float) -> Plan:
        """The plan of a daemon that starts: generation 1, nobody there yet."""
        return cls(State(daemon=daemon, started=now, wanted=max(1, daemon.workers)))

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take note of an event and return what is to be done now."""
        if self.state.phase is Phase.ENDED:
            return []
        if not isinstance(event, events.Abandoned):
            self.state.abandoning = False  # its outcome would have come first, so there is none: the action has failed
        loader = self._note_of_loader(event, now)
        actions = self._note(event, now) if loader is None else loader
        actions += self._overdue(now)
        actions += self._never_gone(now) if isinstance(event, events.Tick) else []  # after the exits of this turn
        actions += self._reconcile(now)
        if isinstance(event, events.Tick | events.Committed):  # the last event of a turn, and what may come of it
            actions += change_steps.begin_waiting(self.state, now)
        note_kills(self.state, actions, now)
        return actions

    def deadline(self, now: float) -> float | None:
        """When a Tick is due at the latest, in monotonic seconds; None: nothing waits for time."""
        state = self.state
        times = [time for child in state.children for time in (child.deadline, child.gone_by) if time]
        times += [poll.deadline for poll in state.polls]
        if state.change is not None and state.change.deadline:
            times.append(state.change.deadline)
        if (proven := change_steps.proven_at(state)) is not None:
            times.append(proven)
        if change_steps.waits(state) or state.abandoning:
            times.append(now)
        if state.phase is Phase.LEAVING:
            times.append(state.leave_at)
        times += [mold.deadline for mold in state.molds.values() if mold.deadline]
        times += seats.deadlines(state)
        times += state.recovers(now)
        if state.patient() and state.daemon.startup_timeout:
            times.append(state.started + state.daemon.startup_timeout)
        return min(times, default=None)

    # ---- taking note ----

    def _note(self, event: Event, now: float) -> list[Action]:
        state = self.state
        match event:
            case Asked():
                return self._asked(event, now)
            case events.Spawned():
                return seats.spawned(state, event, now)
            case events.SpawnFailed():
                return seats.spawn_failed(state, event, now)
            case events.Said() | events.Violation():
                return self._said(event, now)
            case events.Exited():
                return self._exited(event, now)
            case events.Silent() | events.Beating():
                return self._beat(event, now)
            case events.LogsReopened():
                return polls.answered_by_parent(self.state, event.error)
            case events.Queued() | events.Abandoned():
                return ending.note(state, event, now)
            case events.Committed():
                return change_steps.committed(state, event, now)
            case events.Prepared() | events.Failed() | events.TrialStarted():
                return change_steps.note(state, event, now)
        return []

    def _note_of_loader(self, event: Event, now: float) -> list[Action] | None:
        """Take note of what happens to a process that loads an application: a trial or a mold; None: it is none of these."""
        state, trial = self.state, self.state.change.trial if self.state.change is not None else 0
        match event:
            case events.MoldStarted() | events.CastFailed():
                return molding.note(state, event, now)
            case events.Said() | events.Violation() if event.pid in state.molds:
                return molding.said(state, state.molds[event.pid], event, now)
            case events.Exited() if event.pid in state.molds:
                return molding.ended(state, state.molds[event.pid], event.code, now)
            case events.Said() | events.Violation() if event.pid == trial:
                return change_steps.trial_said(state, event)
            case events.Exited() if event.pid == trial:
                return change_steps.trial_ended(state, event.code, now)
        return None

    def _asked(self, event: Asked, now: float) -> list[Action]:
        state, command, who = self.state, event.command, event.who
        refusal = REFUSALS.get((state.phase, command))
        if refusal is None and state.change is not None and command is Command.QUIESCE:
            refusal = f"a {state.change.kind} is under way"
        if refusal is not None:
            text = f"{command} refused: {refusal}"
            refused: list[Action] = [Say(logging.WARNING, text)]
            return [*refused, events.Reply(who, False, text)] if who is not None else refused
        was, state.phase = state.phase, NEXT.get((state.phase, command), state.phase)
        match command:
            case Command.STOP | Command.HALT:
                if who is not None:
                    state.stoppers.append(who)
                return ending.begin(state, was, now)
            case Command.RELOAD | Command.UPGRADE:
                return change_steps.ask(state, command.value, who, now)
            case Command.QUIESCE:
                return quiesce(state, was, who, now)
            case Command.REOPEN | Command.DUMP:
                return polls.begin(state, command, who, now)
            case Command.GROW | Command.SHRINK | Command.SCALE:
                return scaling.ask(state, event)

    def _said(self, event: events.Said | events.Violation, now: float) -> list[Action]:
        state = self.state
        child = state.children.get(event.pid)
        if child is None:
            return []
        punishment = protocol.judge(state, child, event, now)
        if isinstance(event, events.Violation) or child.condemned:
            return punishment
        message = event.message
        match message:
            case channel.Ready():
                return self._ready(child, now)
            case channel.BootFailed():
                child.reason = message.reason
                child.cause = child.cause if child.cause == Cause.HUNG else Cause.BOOT
                if message.kind == "config" and not state.ever_ready and state.patient():
                    return ending.give_up(state, ExitCode.CONFIG, message.reason, message.detail, now)
                if message.detail:
                    return [Say(logging.ERROR, message.reason, _triple(child), message.detail)]
            case channel.RecycleAsked():
                child.asked = message.cause
            case channel.DrainDone():
                child.accounted = True
                return protocol.lost(state, child, message)
            case channel.Draining():
                return polls.deaf(state, child)
            case channel.Reopened() | channel.Dumped():
                return polls.answered(state, child, message)
        return []

    def _ready(self, child: Child, now: float) -> list[Action]:
        if child.stage is not Stage.BOOTING:
            return []  # killed while its message was on the way
        child.turn(Turn.READY)
        child.ready, child.deadline = now, 0.0
        self.state.ever_ready |= child.generation == self.state.generation
        took = f"ready after {now - child.spawned:.2f} s"
        return [Say(logging.INFO, took, _triple(child))]

    def _beat(self, event: events.Silent | events.Beating, now: float) -> list[Action]:
        child = self.state.children.get(event.pid)
        if child is None or child.stage not in (Stage.READY, Stage.DRAINING):
            return []
        if isinstance(event, events.Beating):
            said, child.stalled = child.stalled, False
            return [Say(logging.INFO, "beats again", _triple(child))] if said and not child.cause else []
        if event.hung and child.cause != Cause.HUNG:
            child.cause, child.deadline = Cause.HUNG, now + LAST_WORDS
            return [events.Expose(child.pid, event.age, True)]
        if not child.stalled:
            child.stalled = True
            return [events.Expose(child.pid, event.age, False)]
        return []

    def _exited(self, event: events.Exited, now: float) -> list[Action]:
        state = self.state
        child = state.children.get(event.pid)
        if child is None:
            return []
        state.children.remove(event.pid)
        unwanted = child.serving or child.cause in (Cause.HUNG, Cause.BOOT)
        stage, cause = child.stage, child.cause or _cause_of(event.code)
        if stage is Stage.BOOTING and not child.cause:
            cause, child.reason = Cause.BOOT, child.reason or f"ended during boot ({_cause_of(event.code)})"
        child.turn(Turn.EXIT)
        state.ends[cause] = state.ends.get(cause, 0) + 1
        state.last_end[child.slot] = cause
        state.recycling = 0 if state.recycling == child.pid else state.recycling
        lost = () if child.accounted else event.lost
        actions: list[Action] = [
            events.Retire(child.pid, child.slot, child.generation, child.row, cause, child.reason, lost),
            *polls.lost(state, child),
        ]
        if is_ending(state.phase):
            state.cut += len(lost)
            if state.rescuing() and stage is Stage.BOOTING:  # a stop does not wait for workers to learn how to boot
                return actions + ending.close(state, now)
            if state.phase is not Phase.LEAVING:
                return actions
        if child.abandoned:
            return actions
        if state.change is not None and child.generation == state.change.generation:
            if stage is Stage.BOOTING:
                actions += change_steps.fail(state, child.reason or cause, now)
            elif unwanted:
                actions += change_steps.died(state, state.change, cause, now)
        elif unwanted and state.phase is not Phase.QUIESCED and child.generation == state.generation:
            actions += self._mourn(child, stage, cause, now)
        return actions

    def _mourn(self, child: Child, stage: Stage, cause: str, now: float) -> list[Action]:
        """A worker of the present generation died without an order: back off, or give up a start."""
        state = self.state
        pause = state.backoff(child.slot).died(now, now - child.ready if child.ready else 0.0, child.reason or cause)
        if stage is Stage.BOOTING and not state.ever_ready:
            state.boot_deaths += 1
            if state.boot_deaths >= ending.TRIES_AT_START and state.change is None:
                text = f"no worker ever became ready; the last one: {child.reason or cause}"
                return ending.give_up(state, ExitCode.NO_WORKER, text, "", now)
        actions = change_steps.aftermath(state, child, cause, now)
        if stage is Stage.BOOTING:
            actions += scaling.fail(state, child.slot, now)
        if not pause:
            return actions
        failures = state.backoff(child.slot).failures
        text = f"{failures} short lives in a row; the next worker in {pause:.0f} s"
        return [*actions, Say(logging.WARNING, text, {"worker": child.slot, "gen": child.generation, "pid": child.pid})]

    # ---- time ----

    def _overdue(self, now: float) -> list[Action]:
        state = self.state
        actions: list[Action] = []
        for child in state.children:
            if child.deadline and now >= child.deadline:
                actions += self._late(child, now)
        actions += molding.overdue(state, now)
        actions += change_steps.overdue(state, now)
        actions += polls.overdue(state, now)
        if state.phase is Phase.LEAVING and now >= state.leave_at:
            actions += ending.close(state, now)
        if state.patient() and 0 < state.daemon.startup_timeout <= now - state.started:
            if state.ever_ready:
                actions += self._started("some workers are still missing")
            else:
                text = f"no worker became ready within {state.daemon.startup_timeout:g} s (startup_timeout)"
                for child in state.children:
                    child.cause = child.cause or Cause.BOOT
                actions += ending.give_up(state, ExitCode.NO_WORKER, text, "", now)
        return actions

    def _late(self, child: Child, now: float) -> list[Action]:
        """Escalate: a worker past its deadline is killed. The only further deadline is `gone_by`."""
        given, child.deadline = child.deadline - child.spawned, 0.0
        if child.stage is Stage.KILLED:
            return []
        if child.stage is Stage.BOOTING and not child.cause:
            child.cause = Cause.BOOT
            child.reason = f"not ready within {given:g} s (startup_timeout)"
        text = {
            Cause.HUNG: "hung: killed",
            Cause.BOOT: f"{child.reason}: killed",
        }.get(child.cause, "did not leave in time: killed")
        if child.stage is Stage.DRAINING:
            self.state.killed += self.state.phase is Phase.STOPPING
        was_booting = child.stage is Stage.BOOTING
        child.turn(Turn.KILL)
        actions: list[Action] = [Say(logging.ERROR, text, _triple(child)), events.Kill(child.pid, signal.SIGKILL)]
        change = self.state.change
        if was_booting and change is not None and child.generation == change.generation and not child.abandoned:
            actions += change_steps.fail(self.state, child.reason, now)
        return actions

    def _never_gone(self, now: float) -> list[Action]:
        """Give up the workers that do not end: neither a stop nor a reload waits for them."""
        actions = molding.never_gone(self.state, now)
        for child in never_gone(self.state, now):
            actions += [Say(logging.ERROR, NEVER_GONE, _triple(child))]
            actions += self._exited(events.Exited(child.pid, -signal.SIGKILL), now)
        return actions

    # ---- what is missing ----

    def _reconcile(self, now: float) -> list[Action]:
        state = self.state
        actions = [*dismiss_strays(state, now), *molds.dismiss_strays(state, now)]
        if state.rescuing() and state.complete(state.generation, state.wanted):
            actions += ending.close(state, now)
        if state.phase is Phase.LEAVING and (state.waiting is None or state.rescuing()):
            actions += seats.fill(state, state.generation, state.wanted, now)
        if is_ending(state.phase):
            return actions + ending.finish(state)
        # Commit before forking, so that no worker is forked for a generation that the commit ends; and dismiss the surplus before
        # the commit, so that the new generation then has exactly the wanted seats.
        if state.change is not None and state.change.step is Step.RAISING:
            actions += scaling.surplus(state, state.change.generation, state.change.wanted, now)
        actions += change_steps.advance(state, now)
        if state.phase in (Phase.STARTING, Phase.RUNNING):
            actions += seats.fill(state, state.generation, state.wanted, now)
            actions += scaling.surplus(state, state.generation, state.wanted, now)
            actions += self._recycle(now)
        if state.phase is Phase.STARTING and state.complete(state.generation, state.wanted):
            actions += self._started("")
        if state.change is not None and state.change.step is Step.RAISING:
            actions += seats.fill(state, state.change.generation, state.change.wanted, now)
        return actions + scaling.settle(state, now)

    def _started(self, but: str) -> list[Action]:
        state = self.state
        state.phase = Phase.RUNNING
        text = f"ready: {len(state.ready(state.generation))} workers of generation {state.generation}"
        return [Say(logging.INFO, f"{text}; {but}" if but else text), events.Announce("ready")]

    def _recycle(self, now: float) -> list[Action]:
        """One worker at a time is replaced at its own wish; its successor is ready before it is ordered to drain."""
        state = self.state
        if not state.recycling:
            if state.change is not None:
                return []  # everybody is being replaced anyway
            asking = [c for c in state.children.of(state.generation, stage=Stage.READY) if c.asked]
            if not asking or any(c.stage is Stage.BOOTING for c in state.children):
                return []
            state.recycling = asking[0].pid
            return seats.fill(state, state.generation, state.wanted, now)
        old = state.children.get(state.recycling)
        if old is None:
            state.recycling = 0
            return []
        ready = state.children.of(state.generation, slot=old.slot, stage=Stage.READY)
        if not [c for c in ready if c.pid != old.pid and c.cause != Cause.HUNG]:
            return []  # no successor serves yet
        state.recycling = 0
        return dismiss(state, old, old.asked, now, successor=True)


def _triple(child: Child) -> dict[str, int]:
    return {"worker": child.slot, "gen": child.generation, "pid": child.pid}


def _cause_of(code: int) -> str:
    if code >= 0:
        return f"exit:{code}"
    try:
        return f"crash:{signal.Signals(-code).name}"
    except ValueError:
        return f"crash:{-code}"
