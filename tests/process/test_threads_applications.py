"""engine = threads, and an application that uses what threads allow, many requests at once, and what harms any server."""

from __future__ import annotations

import collections
import concurrent.futures
import re

import pytest

from tests.support.apps import pipeline
from tests.support.client import AnswerError, get
from tests.support.processes import wait_until

AT_ONCE = ("asyncio_run", "threads", "pool", "command", "fork", "forked", "spawned", "processes", "nothing")
"""Each has the result 45."""


@pytest.fixture
def one(daemon):
    return daemon(engine="threads", paste=pipeline("versatile"), workers=1, pool_size=16).start()


def test_everything_that_the_standard_library_offers_at_once(one):
    one.allow("fork")  # newer Pythons warn that there are threads
    (pid,) = one.wait_for_workers(1)
    ways = [*AT_ONCE * 3, *["nothing"] * 100, *["threads"] * 20]
    with concurrent.futures.ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda way: (way, get(one.address, f"/{way}", timeout=60)), ways))
    assert collections.Counter(
        (answer.status, answer.json()["result"], answer.json()["pid"]) for _, answer in answers
    ) == {(200, 45, pid): len(ways)}
    lines = re.findall(r"INFO app worker=0 gen=1 pid=\d+ \[(req-\S+)\] in a thread$", one.log(), re.MULTILINE)
    ids = {answer.json()["id"] for way, answer in answers if way == "threads"}
    assert collections.Counter(lines) == dict.fromkeys(ids, 10)
    wait_until(lambda: one.status()["totals"]["requests"] == len(ways), "each is counted once")
    wait_until(lambda: one.status()["workers"][0]["in_flight"] == 0, "each has given its slot back")
    assert one.worker_pids() == [pid]
    assert one.stop() == 0


@pytest.mark.both_engines
def test_whatever_a_request_raises_ends_that_request_only(daemon):
    one = daemon(paste=pipeline("versatile"), workers=1).start()
    one.allow("ERROR apid.server", "Traceback")
    (pid,) = one.wait_for_workers(1)
    for way in ("exit", "raises", "interrupts", "generator_exit"):
        assert get(one.address, f"/{way}").status == 500, way
        assert get(one.address, "/nothing").json()["pid"] == pid
    wait_until(lambda: one.status()["totals"]["status_5xx"] == 4, "they are counted")
    wait_until(lambda: one.status()["workers"][0]["in_flight"] == 0, "the last one is over")
    assert one.stop() == 0


def test_a_handler_of_signals_belongs_to_the_main_thread(one):
    assert get(one.address, "/handler").json()["result"] == "signal only works in main thread of the main interpreter"
    assert one.stop() == 0


def test_a_request_that_ends_the_process_takes_its_siblings_and_is_named(one):
    one.allow("worker ended: exit:3")
    (pid,) = one.wait_for_workers(1)
    with pytest.raises(AnswerError):
        get(one.address, "/_exit")
    one.wait_for_log(
        r"worker ended: exit:3 \(0 requests\); requests in flight: GET /_exit HTTP/1.1 for \d\.\d s \(req-"
    )
    one.wait_for_workers(1, but=[pid])
    wait_until(lambda: one.status()["ready"] == 1, "its successor")
    assert get(one.address, "/nothing").status == 200
    assert one.stop() == 0
