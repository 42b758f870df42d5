"""The judge of the chaos driver: each thing that it shall find is shown to it once."""

from __future__ import annotations

import collections
import time

import pytest

from tests.chaos.account import Account, Call, Disruption, Failure
from tests.chaos.rest import EXPECTED, GLUED, LINE, NEVER, Rest, records


def account(**fates) -> Account:
    made = Account()
    made.newest = 3
    made.send(fates)
    for ident, fate in fates.items():
        made.settle(ident, fate)
    return made


def call(ident, version=1, at=5.0, pid=7):
    return Call(ident, version, at, pid)


def failure(kind="eof", begin=10.0, end=11.0, **more):
    return Failure("a", kind, begin, end, "main", **more)


def failed(one, *disruptions):
    made = Account()
    made.send(["a"])
    made.fail(one)
    made.disruptions += disruptions
    return made


def test_what_is_right_is_right():
    made = account(a="answered", b="aborted", c="aborted", d="unserved", e="refused")
    assert made.judge([call("a"), call("b")]) == []


@pytest.mark.parametrize(
    ("made", "calls", "text"),
    [
        (account(a="answered"), [call("a"), call("a")], "executed 2 times"),
        (account(a="answered"), [], "answered and never executed"),
        (account(), [call("a")], "executed and never sent"),
        (account(a="refused"), [call("a")], "executed, though it was refused"),
        (account(a="unserved"), [call("a")], "executed, though it was unserved"),
        (account(a=""), [], "has no fate"),
        (failed(failure()), [], "eof"),
        (failed(failure()), [call("a")], "a ghost"),
        (failed(failure(idle=1.0)), [call("a")], "a ghost"),
        (failed(failure("timeout"), Disruption("lossy", 0)), [], "timeout"),
        (failed(failure("wrong"), Disruption("lossy", 0)), [], "wrong"),
        (failed(failure("cut"), Disruption("closing", 0)), [], "cut"),
        (failed(failure(), Disruption("closing", 0)), [call("a")], "a ghost"),
        (failed(failure(), Disruption("closing", 0, 1)), [], "eof"),
        (failed(failure(), Disruption("closing", 20)), [], "eof"),
        (failed(failure(pid=8), Disruption("lossy", 0, pids=frozenset({7}))), [], "worker 8"),
        (failed(failure(), Disruption("closing", 0, listener="local")), [], "on main"),
    ],
)
def test_each_fault_is_found(made, calls, text):
    assert text in "\n".join(made.judge(calls))


@pytest.mark.parametrize(
    ("one", "disruption", "calls"),
    [
        (failure(idle=1.0), Disruption("closing", 0, 1), []),
        (failure("refused"), Disruption("closing", 9), []),
        (failure("cut"), Disruption("lossy", 9, 12), [call("a")]),
        (failure(pid=7), Disruption("lossy", 9, pids=frozenset({7})), [call("a")]),
    ],
)
def test_what_the_driver_did_itself_is_excused(one, disruption, calls):
    assert failed(one, disruption).judge(calls) == []


def test_two_fates_and_old_content_are_found():
    made = account(a="answered")
    made.settle("a", "aborted")
    made.publish(2)
    made.send(["b", "c"])
    made.answered("b", 1, time.monotonic() + 1)
    made.answered("c", 4, time.monotonic() + 1)
    assert [text.split(" was")[0].split(" has")[0] for text in made.judge([call("a"), call("b"), call("c")])] == [
        "a",
        "b",
        "c",
    ]


def test_the_access_log_is_compared_with_the_calls():
    made = account()
    made.killed[8] = 1.0
    made.disk.append(Disruption("disk", 100, 110))
    calls = [call("a"), call("b", pid=8), call("c", at=105), call("d"), call("e")]
    logged = collections.Counter({"a": 2, "e": 1, "x": 1})
    assert [text.split(" ")[0] for text in made.missing_lines(calls, logged)] == ["a", "x", "d"]


@pytest.mark.parametrize(
    ("line", "torn"),
    [
        ("/r/a-1.2 20", True),
        ("/r/a-1.2", True),
        ("/r/a-1.", True),
        ("/r/a-1.2 200 47", True),
        ("", False),
        ("/r/a-1.2 20/r/b-1.1 200 47.", False),
        ("/r/a-1.2 200 47.", False),
    ],
)
def test_a_torn_line_is_the_beginning_of_one(line, torn):
    assert Rest.torn(line) == torn
    assert bool(LINE.fullmatch(line)) == (line == "/r/a-1.2 200 47.")


@pytest.mark.parametrize(
    ("line", "second"),
    [
        ("/r/a-1.2 20/r/b-1.1 200 47.", "/r/b-1.1"),
        ("/r/a-1/r/b-1.1 200 47.", "/r/b-1.1"),
        ("/r/a-1.2- 408 47.", "-"),
        ("/r/r/b-1.1 200 47.", "/r/b-1.1"),
        ("//r/b-1.1 200 47.", "/r/b-1.1"),
        ("/r/a-1.2 200 47.", None),
        ("/r/a-1.2 200 47./r/b-1.1 200 47.", None),
    ],
)
def test_a_torn_line_may_have_the_next_one_glued_to_it(line, second):
    assert (found := GLUED.fullmatch(line)) is None or found[1] == second
    assert (found is None) == (second is None)


def test_a_traceback_is_a_fault_unless_the_driver_caused_it():
    head = "2026-11-26 13:03:36.295 ERROR apid pid=1 failed\n  Traceback (most recent call last):\n    RuntimeError: "
    text = f"{head}broken by the chaos driver\n{head}something else\n"
    assert [bool(NEVER.search(one) and not EXPECTED.search(one)) for one in records(text)] == [False, True]
