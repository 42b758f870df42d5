"""What an upgrade carries over: everything but what is new by nature in the next image."""

from __future__ import annotations

import copy
import dataclasses
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apid.conf.settings import Daemon
from apid.errors import ApidError
from apid.parent import handover, program, upgrade
from apid.parent.backoff import Backoff
from apid.parent.children import Child, Children
from apid.parent.lifecycle import Stage
from apid.parent.phases import Command, Phase
from apid.parent.state import Change, Mold, Poll, State, Step, Verdict
from apid.posix import memfd

NOT_CARRIED = {
    "casting",  # answered within a turn
    "committed",  # its verdict falls in the same turn
    "pending",  # forks are answered before an exec
    "reopened",  # as above
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
    state.molds = {101: Mold(101, 7, 1.0, 2.0, code="abc", load=1.0, fork=0.02)}
    state.alone, state.codes, state.outdated = {8}, {7: "abc"}, "what is installed differs"
    state.molding = Backoff(1, 44.0)
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


def test_options_of_another_version_are_left_out_or_have_their_defaults():
    packed = handover.pack(full())
    packed["daemon"]["of_tomorrow"] = 7
    del packed["daemon"]["max_requests"]
    assert handover.unpack(json.loads(json.dumps(packed))).daemon == Daemon(4, pid_file="/run/a")


def document(**changed):
    """What `become` writes of a daemon without workers."""
    state = handover.pack(dataclasses.replace(full(), children=Children(), molds={}))
    return {
        "version": program.STATE_VERSION,
        "pid": os.getpid(),
        "state": state,
        "listeners": {"tcp:8080": [3, None], "unix:/a": [4, ["/a", [2049, 77], 9]], "unix:/b": [5, ["/b", None, None]]},
        "resolved": {"localhost": ["127.0.0.1"]},
        "channels": {},
        "stacks": {},
        "rows": {},
        "places": {"7": {"main": {"tcp:8080": "127.0.0.1:8080"}}},
        "board": [5, 6],
        "control": [7, ["/run/ctl", [2049, 78], 10]],
        "clients": {"3": [8, 1, "", ""]},
        "pid_file": [9, "/run/pid"],
        **changed,
    }


STATE = document()["state"]


def restored(found):
    data = found if isinstance(found, bytes) else json.dumps(found).encode()
    return upgrade.restore({program.STATE_FD: str(memfd.of(data, "apid-state"))})


def test_a_document_is_read_as_it_was_written():
    inheritance = restored(document())
    assert inheritance.places() == {7: {"main": {"tcp:8080": "127.0.0.1:8080"}}}
    assert inheritance.plan().state.change.generation == 8


@pytest.mark.parametrize(
    "found",
    [
        b"",
        b"[" * 100_000,
        b"[]",
        b"null",
        b"\xff",
        b'{"version": 3',
        {"version": True},
        {"pid": 1},
        {"more": 1},
        {"state": []},
        {"state": {}},
        {"board": 5},
        {"board": [5]},
        {"board": ["5", "6"]},
        {"listeners": {"tcp:8080": [3]}},
        {"listeners": {"tcp:8080": [-1, None]}},
        {"channels": {"many": 3}},
        {"channels": {str(os.getpid()): 3}},
        {"rows": {"1": 5}},
        {"rows": {"4711": 100_000}},
        {"places": {"7": {"main": []}}},
        {"clients": {"1": [1, 2, 3, 4]}},
        {"state": {**STATE, "phase": "well"}},
        {"state": {**STATE, "wanted": "3"}},
        {
            "state": {
                **STATE,
                "children": [{"pid": -1, "slot": 0, "generation": 1, "row": 1, "spawned": 1.0}],
            }
        },
        {
            "state": {
                **STATE,
                "children": [{"pid": 2, "slot": 0, "generation": 1, "row": 1, "spawned": 1.0}],
            }
        },
    ],
)
def test_a_document_that_cannot_be_read_has_a_reason(found):
    with pytest.raises(ApidError, match=r"the state of the program before cannot be taken over: \S"):
        restored(found if isinstance(found, bytes) else document(**found))


@pytest.mark.parametrize("kind", ["closed", "null", "pipe", "memfd"])
def test_a_descriptor_of_another_kind_is_refused_and_stays_open(kind):
    made = {"closed": os.pipe, "pipe": os.pipe, "null": lambda: [os.open(os.devnull, os.O_RDWR)],
            "memfd": lambda: [os.memfd_create("apid-state")]}[kind]()  # fmt: skip
    if kind == "closed":
        os.close(made[0])
    with pytest.raises(ApidError, match="cannot be taken over"):
        upgrade.restore({program.STATE_FD: str(made[0])})
    for fd in made[kind == "closed" :]:
        os.close(fd)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), VALUES)
def test_a_document_with_a_part_replaced(way, value):
    """Follow `way` into the state; whatever stands there instead, the result is a state or a reason."""
    packed = copy.deepcopy(json.loads(json.dumps(handover.pack(full()))))
    at = packed
    for step in way:
        keys = list(at) if isinstance(at, dict) else range(len(at))
        key = keys[step % len(keys)]
        if not isinstance(at[key], dict | list) or not at[key] or step is way[-1]:
            at[key] = value
            break
        at = at[key]
    try:
        found = handover.unpack(packed)
    except ValueError:
        return
    assert isinstance(found, State)
    handover.unpack(json.loads(json.dumps(handover.pack(found))))


def test_a_scoreboard_that_is_not_taken_over_is_marked_for_its_guard(board):
    board._head[0] += 1  # of another program
    inheritance = restored(document(board=[os.dup(fd) for fd in board.fds]))
    assert inheritance.board() is None
    assert os.pread(board.fds[1], 8, 0) == bytes(8)
    assert not board.is_current()
