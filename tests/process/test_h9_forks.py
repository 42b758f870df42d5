"""H9: a process that an application forks inside a worker has no listener, no connection, no channel, and serves nobody."""

from __future__ import annotations

import contextlib
import json
import os
import signal

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import Connection, get, request_bytes
from tests.support.processes import wait_until

ENDS = {
    "return": 1, "raise": 1, "missing": 1, "exit": 3, "_exit": 4, "process": 0, "terminate": -signal.SIGTERM, "spawn": 0,
    "terminal": 5, "native": 1, "twice": 40, "thread": 1, "prepared": 0,
}  # fmt: skip
COMES_BACK = ("return", "raise", "missing", "native", "thread")
OF_NATIVE_THREADS = {"native": 0, "thread": 0}
"""A child whose only thread returns from its function ends as any process of Python does then."""


def children(one):
    """What the children wrote about themselves."""
    file = one.directory / "children"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def start(daemon):
    def _start(loads="", **options):
        one = daemon(paste=pipeline("forking", file="children", loads=loads), access_log="access.log", **options)
        # fork warns where there are native threads, and eventlet always
        one.allow(
            "forked by the application, returned",
            "(RuntimeError|FileNotFoundError): .*in the child",
            "Traceback",
            "fork",
        )
        return one.start()

    return _start


@pytest.mark.both_engines
def test_h9_every_way_to_fork(start, engine):
    ends = ENDS if engine == "eventlet" else {**ENDS, **OF_NATIVE_THREADS}
    back = COMES_BACK if engine == "eventlet" else set(COMES_BACK) - set(OF_NATIVE_THREADS)
    one = start(workers=1)
    (pid,) = one.wait_for_workers(1)
    before = one.status()["totals"]["requests"]
    with Connection(one.address) as idle, Connection(one.address) as busy:
        assert idle.request("GET", "/pid").json() == {"pid": pid}
        busy.send(request_bytes("GET", "/slow"))
        for how, code in ends.items():
            with contextlib.suppress(FileNotFoundError):
                (one.directory / "children").unlink()
            assert get(one.address, f"/{how}").json() == {"pid": pid, "ended": code}, how
            if how == "terminate":
                continue
            (child,) = children(one)
            assert child["pid"] != pid
            assert not child["sockets"], (how, child)
            assert engine == "eventlet" or not child["events"], "nothing of the loop"
            assert child["mask"] == 0
            assert child["term"] == signal.SIG_DFL, how
            if how in ("process", "twice"):
                assert child["more"] == "thread native"
        answer = get(one.address, "/stream-return").text
        assert answer == f"{pid} begins\n{pid} ended 1\n"
        assert busy.answer().json() == {"pid": pid}, "once, and by the worker"
        assert idle.request("GET", "/pid").json() == {"pid": pid}
        answered = len(ends) + 4
        wait_until(lambda: one.status()["totals"]["requests"] - before == answered, "each request is counted once")
    assert one.wait_for_workers(1) == [pid]
    assert one.log().count("returned to the server") == len(back) + 1
    assert "No such file or directory: '/nowhere/missing in the child'" in one.log()
    assert one.stop() == 0
    lines = (one.directory / "access.log").read_text().splitlines()
    assert len(lines) == answered, "no line of the access log twice"


def test_h9_a_child_that_stays_keeps_no_port_and_no_connection(start):
    one = start(workers=1)
    host, port = one.address
    with Connection(one.address) as connection:
        child = connection.request("GET", "/daemon").json()["ended"]
        wait_until(lambda: children(one), "the child runs")
        assert "child of worker 0" in processes.command(child)
        assert one.stop() == 0
        assert connection.ended(), "the child holds no copy of the connection"
    wait_until(lambda: not processes.alive(child), "multiprocessing has ended its daemon")
    with pytest.raises(ConnectionRefusedError):
        get((host, port))


@pytest.mark.both_engines
def test_h9_a_child_that_outlives_its_worker_holds_nothing(start):
    one = start(workers=1)
    host, port = one.address
    child = get(one.address, "/daemon").json()["ended"]
    wait_until(lambda: children(one), "the child runs")
    try:
        (pid,) = one.wait_for_workers(1)
        os.kill(pid, signal.SIGKILL)
        one.allow("worker ended: crash:SIGKILL")
        one.wait_for_workers(1, but=[pid])
        assert one.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            get((host, port))
        assert processes.alive(child)
    finally:
        processes.end(child)


@pytest.mark.both_engines(slow=True)
def test_h9_nothing_is_inherited_by_a_program_even_after_an_upgrade(start):
    one = start(workers=1)
    few = get(one.address, "/command").json()["ended"]
    one.apidctl("upgrade")
    assert get(one.address, "/command").json()["ended"] == few == 2 * 4, "0, 1, 2 and the listing's own"
    assert one.stop() == 0


def test_h9_what_it_forks_while_it_loads(start):
    ways = {"return": 1, "exit": 3, "_exit": 4, "process": 0, "terminate": -15}
    one = start(loads=" ".join(ways), workers=1)
    assert (one.directory / "loaded").read_text().splitlines() == [f"{how} {code}" for how, code in ways.items()]
    assert not any(child["sockets"] for child in children(one))
    (pid,) = one.wait_for_workers(1)
    assert get(one.address, "/pid").json() == {"pid": pid}
    assert one.stop() == 0


@pytest.mark.both_engines
def test_h9_what_the_docs_advise(start):
    one = start(workers=1)
    assert get(one.address, "/executor").json()["ended"] == 6
    with Connection(one.address) as first, Connection(one.address) as second:
        first.send(request_bytes("GET", "/asyncio"))
        second.send(request_bytes("GET", "/asyncio"))
        assert [each.answer().json()["ended"] for each in (first, second)] == ["awaited"] * 2
    assert one.stop() == 0
