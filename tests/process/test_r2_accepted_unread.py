"""R2: a connection that was accepted before a reload or a stop, and speaks only afterwards, is answered: 100 of 100."""

from __future__ import annotations

import contextlib
import signal
import time

import pytest

from tests.support.apps import pipeline
from tests.support.client import Connection, request_bytes
from tests.support.processes import wait_until

COUNT = 100
SILENCE = 0.2
"""Seconds between the signal and the first byte; the promise's own number."""


@pytest.mark.both_engines(slow=True)
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=["reload", "stop"])
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_r2_what_was_accepted_is_served_though_it_speaks_late(daemon, tmp_path, number, unix):
    path = tmp_path / "api.sock"
    bind = {"bind": f"unix:{path}", "bind_port": None} if unix else {}
    one = daemon(paste=pipeline("hello"), workers=2, **bind).start()
    address = path if unix else one.address
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(address)) for _ in range(COUNT)]
        wait_until(lambda: one.status()["totals"]["accepted"] >= COUNT, "all are accepted")
        one.signal(number)
        one.wait_for_log("received SIG")
        time.sleep(SILENCE)
        for connection in connections:
            connection.send(request_bytes())
        answers = [connection.answer() for connection in connections]
        assert [answer.status for answer in answers] == [200] * COUNT
    if number == signal.SIGHUP:
        one.wait_ready(2)
    assert ended(one, number) == 0


def ended(one, number):
    """Its exit code; a second SIGTERM would stop it now, while a worker still counts the last answer."""
    return one.wait() if number == signal.SIGTERM else one.stop()


@pytest.mark.both_engines
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=["reload", "stop"])
def test_r2_a_head_that_was_half_sent_is_served_when_it_is_whole(daemon, number):
    one = daemon(paste=pipeline("hello"), workers=1).start()
    with Connection(one.address) as connection:
        data = request_bytes()
        connection.send(data[:10])
        wait_until(lambda: one.status()["totals"]["accepted"] == 1, "it is accepted")
        one.signal(number)
        one.wait_for_log("drain")
        connection.send(data[10:])
        answer = connection.answer()
        # whether it announces the close depends on whether the worker had heard of the drain by then
        assert answer.status == 200
        assert connection.rest() == b""
    assert ended(one, number) == 0
