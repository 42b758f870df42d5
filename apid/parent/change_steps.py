"""A reload or an upgrade, step by step: prepare, try, raise, commit; or take everything back. Pure: state in, actions out.

    PREPARING  the parent reads the configuration and binds what is new in it    Prepared -> TRYING, Failed -> taken back
    TRYING     a mold or a throw-away child loads the pipelines (upgrade: the new program) Ready -> RAISING (upgrade: exec)
    RAISING    workers of generation n+1 boot beside those of n                   all ready -> committed; then n drains
Whatever goes wrong, generation n has not been touched.
"""

from __future__ import annotations

import dataclasses
import logging
import signal

from apid import channel
from apid.conf.settings import Daemon
from apid.parent import events, molds, polls, scaling
from apid.parent.backoff import STABLE, Backoff
from apid.parent.children import Child
from apid.parent.dismissal import dismiss
from apid.parent.events import Action, Cause, Say
from apid.parent.lifecycle import Stage
from apid.parent.phases import Phase, ending
from apid.parent.state import Change, State, Step, Verdict

WATCH = 0.5
"""Seconds that each worker of a new generation serves beside the old one before the old one is let go. Long enough for an
application that dies at its first requests or in a thread that it started; short beside the boot of a worker. What comes later
is recorded in the verdict (`aftermath`)."""

MOST_DEATHS = 3
"""Workers of a new generation that may end after they were ready before it is given up."""

HISTORY = 20
"""Verdicts that are kept for `status`."""


def ask(state: State, kind: str, who: int | None, now: float) -> list[Action]:
    """Begin a change, or note that one is wanted after the present one: any number that wait become one.

    A start that is not over yet is no reason to wait: what it fails at may be what the operator has mended.
    """
    state.scaled.clear()
    if state.change is not None or state.queued:
        state.queued.append((kind, who))
        return []
    return _begin(state, kind, [who] if who is not None else [], now)


def _begin(state: State, kind: str, askers: list[int], now: float) -> list[Action]:
    # one that fails leaves its number to the next; workers that it leaves behind are of no generation (Child.abandoned)
    generation = state.generation + 1
    state.change = Change(kind, generation, started=now, askers=askers)
    actions: list[Action] = [Say(logging.INFO, f"{kind}: generation {generation} is being prepared")]
    if state.phase is not Phase.STARTING:  # a service manager has not heard READY=1 yet, and waits for that
        actions.append(events.Announce("reloading"))
    if kind == "upgrade":
        state.change.step = Step.TRYING
        state.change.deadline = _patience(state.daemon, now)
        return [*actions, events.TryProgram(generation)]
    return [*actions, events.Prepare(generation)]


def note(state: State, event: events.Prepared | events.Failed | events.TrialStarted, now: float) -> list[Action]:
    """Take note of how an action of the change went; news of a change that is no more is dropped."""
    change = state.change
    if change is None or event.generation != change.generation:
        if isinstance(event, events.TrialStarted):
            return [events.Kill(event.pid, signal.SIGKILL)]
        if isinstance(event, events.Prepared):
            return [events.Discard(event.generation)]
        return []
    if isinstance(event, events.Failed):
        return fail(state, event.reason, now, event.detail)
    if isinstance(event, events.TrialStarted):
        change.trial = event.pid
        return []
    change.daemon, change.wanted = event.daemon, scaling.after_reload(state, event.daemon.workers)
    preloads = molds.used(state, change.generation)
    if change.tried and not preloads:
        return loaded(change, now)
    change.step, change.deadline = Step.TRYING, _patience(event.daemon, now)
    return molds.cast(state, change.generation, now) if preloads else [events.Try(change.generation)]


def trial_said(state: State, event: events.Said | events.Violation) -> list[Action]:
    """Note the one message of the trial; anything more is a violation. The change goes on once the trial has ended."""
    change = state.change
    if change is None:
        return []
    if isinstance(event, events.Violation) or change.passed or change.told:
        wrong = event.reason if isinstance(event, events.Violation) else f"{type(event.message).__name__} is not due"
        change.passed, change.told, change.detail = False, f"protocol violation of the trial: {wrong}", ""
        return [events.Kill(change.trial, signal.SIGKILL)]
    if isinstance(event.message, channel.Ready):
        change.passed = True
    elif isinstance(event.message, channel.BootFailed):
        change.told, change.detail = event.message.reason or "it did not say why", event.message.detail
    return []


def trial_ended(state: State, code: int, now: float) -> list[Action]:
    """The throw-away child is gone: go on, or take everything back."""
    change = state.change
    if change is None:
        return []
    change.trial = 0
    ended = f"signal {-code}" if code < 0 else f"exit code {code}"
    if not change.passed:
        return fail(state, change.told or f"the trial ended with {ended} and said nothing", now, change.detail)
    # How the process ends afterwards is up to the exit functions of the application.
    text = f"{change.kind}: the trial loaded the application, and then ended with {ended}"
    said: list[Action] = [Say(logging.WARNING, text)] if code != 0 else []
    if change.kind == "upgrade":
        change.step, change.deadline, change.tried = Step.PREPARING, 0.0, True
        return [*said, events.Exec(change.generation)]
    return said + loaded(change, now)


def loaded(change: Change, now: float) -> list[Action]:
    """The application of the generation to be has been loaded: its workers are forked."""
    change.step = Step.RAISING
    if change.daemon is not None:
        # Each boot has its own deadline; this one ends a generation whose workers keep dying after they were ready. Workers that
        # still drain from the last change may hold places until their own deadline.
        boot, drain = change.daemon.startup_timeout, change.daemon.graceful_shutdown_timeout
        change.deadline = now + 2 * boot + drain if boot and drain else 0.0
    text = f"{change.kind}: generation {change.generation} is loaded; {change.wanted} workers boot"
    return [Say(logging.INFO, text)]


def died(state: State, change: Change, cause: str, now: float) -> list[Action]:
    """A worker of the new generation ended after it was ready: once or twice is an accident, more is what it does."""
    change.deaths += 1
    if change.deaths < MOST_DEATHS:
        return []
    return fail(
        state, f"{change.deaths} of its workers ended soon after they were ready, the last one with {cause}", now
    )


def overdue(state: State, now: float) -> list[Action]:
    """A step that takes too long has failed (a pipeline that hangs while it loads)."""
    change = state.change
    if change is None or not change.deadline or now < change.deadline:
        return []
    if change.step is Step.RAISING:
        return fail(state, "its workers did not become ready together", now)
    timeout = (change.daemon or state.daemon).startup_timeout
    return fail(state, f"the trial did not end within {timeout:g} s (startup_timeout)", now)


def advance(state: State, now: float) -> list[Action]:
    """Commit when every seat of the new generation has been ready for WATCH seconds."""
    at = proven_at(state)
    return _commit(state, state.change, now) if state.change is not None and at is not None and now >= at else []


def proven_at(state: State) -> float | None:
    """When the change under way is to be committed, in monotonic seconds; None while a seat has no ready worker."""
    change = state.change
    if change is None or change.step is not Step.RAISING or not state.complete(change.generation, change.wanted):
        return None
    return max(child.ready for child in state.children.of(change.generation, stage=Stage.READY)) + WATCH


def begin_waiting(state: State, now: float) -> list[Action]:
    """Begin the change that waits, with all news of the last one taken note of: the number that this one gets may be the same."""
    if not waits(state):
        return []
    kinds, askers = {kind for kind, _ in state.queued}, [who for _, who in state.queued if who is not None]
    state.queued.clear()
    return _begin(state, "upgrade" if "upgrade" in kinds else "reload", askers, now)


def waits(state: State) -> bool:
    """Whether a change waits for nothing but the next turn."""
    return state.change is None and state.committed is None and bool(state.queued) and not ending(state.phase)


def _commit(state: State, change: Change, now: float) -> list[Action]:
    old, state.generation = state.generation, change.generation
    if change.daemon is not None:
        state.daemon = change.daemon
    state.wanted, state.change, state.recycling = change.wanted, None, 0
    state.phase, state.ever_ready = Phase.RUNNING, True
    state.backoffs = {slot: Backoff() for slot in range(state.wanted)}
    state.molding, state.outdated = Backoff(), ""
    state.alone &= {state.generation}
    state.codes = {of: code for of, code in state.codes.items() if of == state.generation}
    actions: list[Action] = [events.Commit(change.generation), events.Leave(False)]
    for child in state.children:
        if child.generation != change.generation:
            actions += dismiss(state, child, Cause.RELOAD, now, successor=True)
    change.former, change.going = old, [action.pid for action in actions if isinstance(action, events.DrainWorker)]
    state.committed = change
    return actions


def committed(state: State, event: events.Committed, now: float) -> list[Action]:
    """Give the verdict of a change that is past its commit: what the commit could not do is part of it."""
    change, state.committed = state.committed, None
    if change is None:
        return []
    text = f"generation {change.generation} is ready ({change.wanted} workers, each for {WATCH:g} s at least)"
    if event.trouble:
        text = f"{change.kind}: {text}, but not all of its settings apply: {'; '.join(event.trouble)}"
    ok = not event.trouble
    _judge(state, change, ok, text, now)
    said = f"{change.kind}: {text}; generation {change.former} drains" if ok else text
    actions: list[Action] = [Say(logging.INFO if ok else logging.ERROR, said), events.Announce("ready")]
    for who in change.askers:
        actions += polls.hold(state, who, text, set(change.going), now, ok=ok)
    return actions


def fail(state: State, reason: str, now: float, detail: str = "") -> list[Action]:
    """Take the change back: its workers go, what was bound only for it is closed, each waiting client gets the reason."""
    change = state.change
    if change is None:
        return []
    state.change = None
    actions: list[Action] = []
    if change.trial:
        actions.append(events.Kill(change.trial, signal.SIGKILL))
    actions += molds.dismiss(state, change.generation, now)
    state.alone.discard(change.generation)
    state.codes.pop(change.generation, None)
    for child in state.children.of(change.generation):
        # one that is ready has been accepting: it drains, or a failed reload would cost requests
        actions += dismiss(state, child, Cause.RELOAD, now, successor=True)
        child.abandoned = True
    text = f"{change.kind} failed, {_what_goes_on(state)}: {reason}"
    _judge(state, change, False, text, now)
    actions += [events.Discard(change.generation), Say(logging.ERROR, text, detail=detail)]
    if state.phase is not Phase.STARTING:
        actions.append(events.Announce("ready"))
    answer = f"{text}\n{detail}" if detail else text
    return actions + [events.Reply(who, False, answer) for who in change.askers]


def _what_goes_on(state: State) -> str:
    if ending(state.phase):
        return "nothing has changed"
    way = {Phase.STARTING: "goes on booting", Phase.QUIESCED: "stays quiesced"}.get(state.phase, "goes on")
    return f"generation {state.generation} {way}"


def aftermath(state: State, child: Child, cause: str, now: float) -> list[Action]:
    """A worker of the present generation ended by itself: soon after the change that raised it, that change's record tells it."""
    found = [index for index, one in enumerate(state.history) if one.ok and one.generation == child.generation]
    if not found or now - state.history[found[-1]].at >= STABLE:
        return []
    verdict = state.history[found[-1]]
    state.history[found[-1]] = dataclasses.replace(verdict, deaths=verdict.deaths + 1, last_death=cause)
    state.verdict = state.history[-1]
    if verdict.deaths:
        return []
    text = f"{verdict.kind} to generation {verdict.generation}: a worker ended {now - verdict.at:.1f} s after it with {cause}"
    return [Say(logging.WARNING, text)]


def _patience(daemon: Daemon, now: float) -> float:
    """Until when a trial may take: it has the same limit itself, and shall be the one to say what it waited for."""
    return now + daemon.startup_timeout + 1.0 if daemon.startup_timeout else 0.0


def _judge(state: State, change: Change, ok: bool, text: str, now: float) -> None:
    state.verdict = Verdict(change.kind, ok, text, change.generation, now - change.started, now)
    word = f"{change.kind} {'ok' if ok else 'failed'}"
    state.changes[word] = state.changes.get(word, 0) + 1
    state.history = [*state.history, state.verdict][-HISTORY:]
