"""T2: a rate limit of N lets exactly N through, whatever the number of workers; a reload or a kill gives none back."""

from __future__ import annotations

import os
import shutil
import signal
import threading

import pytest

from tests.support.client import get
from tests.support.processes import alive, wait_until
from tests.support.redis_server import Redis

LIMIT = 100
PASTE = """
[pipeline:main]
pipeline = requestid ratelimit ok

[filter:requestid]
use = egg:apid#requestid

[filter:ratelimit]
use = egg:apid#ratelimit
limits = (GET, *, .*, 100, DAY)
state_dir = {state}

[app:ok]
use = egg:apid#healthcheck
"""


@pytest.fixture
def limited(daemon, tmp_path):
    """A daemon with the limit, its counts in a directory of the test."""

    def start(**options):
        one = daemon(paste=PASTE.format(state=tmp_path), **options).launch()
        one.wait_for_log(r"ready: (\d+ workers? of generation 1\b|serving inline)", 30)
        return one

    return start


def ask(one, requests, clients=10):
    """Send requests from several threads, each on a connection of its own; returns the statuses."""
    statuses: list[int] = []

    def client():
        statuses.extend(get(one.address).status for _ in range(requests // clients))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 429}
    return statuses


@pytest.mark.parametrize("workers", [0, 4])
def test_exactly_n_of_5n_get_through(limited, workers):
    assert ask(limited(workers=workers), 5 * LIMIT).count(200) == LIMIT


@pytest.mark.slow
def test_a_reload_an_upgrade_and_a_killed_worker_keep_the_counts(limited):
    one = limited(workers=2)
    assert ask(one, 40).count(200) == 40
    one.apidctl("reload")
    assert ask(one, 20).count(200) == 20
    one.apidctl("upgrade")
    assert ask(one, 20).count(200) == 20
    victim = one.worker_pids()[0]
    one.allow("crash:SIGKILL")
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not alive(victim), "the worker's end")
    one.wait_for_workers(2, but=[victim])
    assert ask(one, 60).count(200) == 20


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("redis-server"), reason="needs Debian's redis-server, which .ci/run installs")
def test_over_several_machines_through_redis(daemon, tmp_path):
    """Two daemons of two workers stand for two machines; in their workers the client of Redis is green."""
    redis = Redis(tmp_path)
    try:
        paste = PASTE.replace("state_dir = {state}", f"storage = {redis.uri}")
        machines = [daemon(paste=paste, workers=2).start() for _ in range(2)]
        counts = [ask(one, 2 * LIMIT + LIMIT // 2).count(200) for one in machines]
        assert sum(counts) == LIMIT
        redis.kill()
        for one in machines:
            one.allow("rate limits are not counted, requests are let through until they are")
            assert get(one.address).status == 200
        redis.start()
        wait_until(lambda: get(machines[0].address).header("RateLimit-Remaining"), "counting", 10)
    finally:
        redis.kill()


def test_two_daemons_with_one_directory_do_not_mix(limited):
    assert ask(limited(workers=1), 2 * LIMIT).count(200) == LIMIT
    assert ask(limited(workers=1), 2 * LIMIT).count(200) == LIMIT


def test_the_answer_of_a_refusal(limited):
    one = limited(workers=1)
    ask(one, LIMIT)
    answer = get(one.address)
    fault = answer.json()["overLimit"]
    assert (answer.status, fault["code"], fault["retryAfter"]) == (429, 429, answer.header("Retry-After"))
    assert fault["request_id"] == answer.header("X-Openstack-Request-Id")
    assert (answer.header("RateLimit-Limit"), answer.header("RateLimit-Remaining")) == ("100", "0")
