"""R12: a drain with only idle clients is short; a request past the deadline is cut, and named with method, path, age and id."""

from __future__ import annotations

import contextlib
import re
import signal
import time

import pytest

from tests.support.apps import pipeline
from tests.support.client import Connection, NoAnswer, request_bytes
from tests.support.processes import wait_until


@pytest.mark.both_engines(slow=True)
@pytest.mark.timing
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=["reload", "stop"])
def test_r12_idle_keep_alive_clients_do_not_hold_a_drain(daemon, say, number):
    one = daemon(paste=pipeline("hello"), workers=2, graceful_shutdown_timeout=60).start()
    old = one.wait_for_workers(2)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(one.address)) for _ in range(50)]
        assert {connection.request().status for connection in connections} == {200}
        if number == signal.SIGHUP:
            assert one.ask("reload")["ok"]
            started = time.monotonic()
            one.wait_for_workers(2, but=old, deadline=10)
        else:
            started = time.monotonic()
            assert one.stop() == 0
        took = time.monotonic() - started
        say(f"the drain of 50 idle clients took {took:.2f} s")
        assert took < 5.0, "2 s are promised; the rest is for a busy machine, and far from graceful_shutdown_timeout"
        assert {connection.rest() for connection in connections} == {b""}
    assert one.stop() == 0


@pytest.mark.both_engines
def test_r12_a_request_past_the_deadline_is_cut_and_named(daemon, tmp_path):
    one = daemon(
        paste=pipeline("slow", seconds=60, began=tmp_path / "began"), graceful_shutdown_timeout=1, workers=1
    ).start()
    with Connection(one.address) as connection:
        connection.send(request_bytes("POST", "/long/work?x=1", body=b"{}"))
        wait_until((tmp_path / "began").exists, "the request is in flight")
        assert one.stop() == 1
        with pytest.raises((NoAnswer, ConnectionResetError)):
            connection.answer("POST")
    line = next(line for line in one.log().splitlines() if "deadline cut" in line)
    assert re.search(r"POST /long/work\S*", line), line
    assert re.search(r"\d(\.\d+)? s", line), line
    assert "req-" in line, line


@pytest.mark.both_engines
def test_r12_what_ends_in_time_is_not_cut(daemon, tmp_path):
    one = daemon(
        paste=pipeline("slow", seconds=1, began=tmp_path / "began"), graceful_shutdown_timeout=20, workers=1
    ).start()
    with Connection(one.address) as connection:
        connection.send(request_bytes())
        wait_until((tmp_path / "began").exists, "the request is in flight")
        one.signal(signal.SIGTERM)
        assert connection.answer().status == 200
    assert one.wait() == 0
    assert "cut" not in one.log()
