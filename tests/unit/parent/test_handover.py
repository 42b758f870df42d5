"""What an upgrade carries over: everything but what is new by nature in the next image."""

from __future__ import annotations

import dataclasses
import json

from apid.conf.settings import Daemon
from apid.parent import handover
from apid.parent.backoff import Backoff
from apid.parent.children import Child, Children
from apid.parent.lifecycle import Stage
from apid.parent.phases import Command, Phase
from apid.parent.state import Change, Poll, State, Step, Verdict

NOT_CARRIED = {
    "committed",  # its verdict falls in the same turn
    "pending",  # forks are answered before an exec
    "verdict",  # the last of `history`
    "stoppers",  # nobody upgrades while stopping
    "ever_ready",
    "boot_deaths",
    "leave_at",
    "waiting",
    "abandoning",
    "cut",
    "killed",
    "exit_code",
    "exit_reason",
}


def full() -> State:
    state = State(daemon=Daemon(4, pid_file="/run/a", max_requests=5), started=12.5, wanted=3, phase=Phase.RUNNING)
    state.generation, state.recycling = 7, 100
    state.children = Children([Child(100, 0, 7, 3, 1.5, Stage.READY, 2.0, 0.0, "", "rss", True, "slow")])
    state.backoffs = {0: Backoff(3, 99.0)}
    state.change = Change("upgrade", 8, 40.0, [5, 6], Step.PREPARING, tried=True)
    state.queued = [("reload", None), ("upgrade", 4)]
    state.history = [Verdict("reload", False, "no", 6, 1.0, 30.0)]
    state.verdict = state.history[-1]
    state.polls = [Poll("dump", 7, {100}, 55.0, ["late"])]
    state.scaled, state.scalers = [(Command.SCALE, 3)], [(8, 3)]
    state.ends, state.changes, state.last_end = {"rss": 2}, {"reload ok": 1}, {0: "rss"}
    state.ever_ready = True
    return state


def test_the_document_gives_the_same_state_again():
    state = full()
    again = handover.unpack(json.loads(json.dumps(handover.pack(state))))
    for field in dataclasses.fields(State):
        mine, theirs = getattr(state, field.name), getattr(again, field.name)
        if field.name == "children":
            mine, theirs = list(mine), list(theirs)
        assert mine == theirs, field.name


def test_no_field_is_forgotten():
    fields = {field.name for field in dataclasses.fields(State)}
    assert fields - NOT_CARRIED == set(handover.pack(full()))
