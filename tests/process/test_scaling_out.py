"""docs/SCALING_OUT.md with real parts: two daemons, PostgreSQL, Redis, and HAProxy in front, all on loopback."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import json
import os
import signal
import subprocess
import threading
from typing import Self

import pytest

from tests.support.client import AnswerError, Connection, get
from tests.support.daemon import CONTROL
from tests.support.haproxy import HAProxy, free_port
from tests.support.postgres import Postgres
from tests.support.processes import wait_until
from tests.support.redis_server import Redis

pytestmark = pytest.mark.slow

LIMIT = 50
PASTE = """
[composite:main]
use = egg:apid#urlmap
/v1 = api_v1
/healthcheck = healthcheck

[pipeline:api_v1]
pipeline = faultwrap requestid sizelimit noauth ratelimit api

[filter:faultwrap]
use = egg:apid#faultwrap

[filter:requestid]
use = egg:apid#requestid

[filter:sizelimit]
use = egg:apid#sizelimit

[filter:noauth]
use = egg:apid#noauth
without_token = serve

[filter:ratelimit]
use = egg:apid#ratelimit
limits = (GET, */limits, .*/limits, {limit}, DAY)
storage = {redis}
timeout = 5
on_error = deny

[app:healthcheck]
use = egg:apid#healthcheck

[app:api]
use = egg:apid#api
quota_animals = -1
"""
JSON = {"Content-Type": "application/json"}


class Clients:
    """Threads with a connection each, kept alive, that send what is asked for, and count what is not its right answer."""

    def __init__(self, address, *, writes: bool, count: int = 6) -> None:
        self._address = address
        self._writes = writes
        self._names = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        self.answered = 0
        self.failed: collections.Counter[str] = collections.Counter()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with Connection(self._address, timeout=30) as client:
                    while not self._stop.is_set() and self._exchange(client):
                        pass
            except (OSError, AnswerError) as error:
                self.failed[repr(error)] += 1

    def _exchange(self, client: Connection) -> bool:
        answer = client.request("GET", "/v1/animals?limit=3")
        right = answer.status == 200 and "animals" in answer.json()
        if right and self._writes and not answer.closes:
            name = f"{id(self)}-{next(self._names)}"
            body = json.dumps({"animal": {"name": name, "species": "dog"}}).encode()
            answer = client.request("POST", "/v1/animals", body=body, headers=JSON)
            right = answer.status == 201 and answer.json()["animal"]["name"] == name
        if right:
            self.answered += 1
        else:
            self.failed[f"{answer.status} {answer.text[:200]}"] += 1
        return not answer.closes

    def wait_for_more(self, count: int = 50) -> None:
        """Wait until so many more exchanges went well."""
        wanted = self.answered + count
        wait_until(lambda: self.answered >= wanted, f"{count} more answers; failed: {self.failed}", 30)


@pytest.fixture
def house(daemon, tmp_path, nothing_left):
    """Everything, as (function to start the daemon of a port, its two ports, HAProxy)."""
    postgres, redis = Postgres(), Redis(tmp_path)
    url = postgres.database()
    ports = [free_port(), free_port()]

    def start(port: int):
        one = daemon(
            paste=PASTE.format(limit=LIMIT, redis=redis.uri),
            sections={"database": {"connection": url}},
            bind_port=port,
            workers=2,
            drain_delay=5,
            trusted_proxies="127.0.0.1",
        )
        if not upgraded:
            environment = {name: value for name, value in os.environ.items() if name != "OS_DATABASE__CONNECTION"}
            command = [CONTROL, "--config-file", one.config, "db", "upgrade"]
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True, timeout=60)
            upgraded.append(True)
        return one.start()

    upgraded: list[bool] = []
    proxy = HAProxy(tmp_path, ports)
    yield start, ports, proxy
    proxy.close()
    redis.kill()
    postgres.close()


def test_upgraded_one_after_the_other_limited_together_and_one_killed(house, say):
    start, ports, proxy = house
    running = [start(port) for port in ports]
    for name in ("one", "two"):
        proxy.wait_for(name, "UP")

    with Clients(proxy.address, writes=True) as clients:
        clients.wait_for_more()
        for place, name in enumerate(("one", "two")):
            running[place].signal(signal.SIGTERM)
            proxy.wait_for(name, "DOWN")
            assert running[place].wait() == 0
            clients.wait_for_more()
            running[place] = start(ports[place])
            proxy.wait_for(name, "UP")
            clients.wait_for_more()
    say(f"rolling upgrade: {clients.answered} exchanges (GET and POST each), failed {dict(clients.failed) or 0}")
    assert not clients.failed

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: get(proxy.address, "/v1/limits").status, range(3 * LIMIT)))
    assert collections.Counter(codes) == {200: LIMIT, 429: 2 * LIMIT}
    assert all(int(server["stot"]) > 0 for server in proxy.servers().values())

    with Clients(proxy.address, writes=False) as clients:
        clients.wait_for_more()
        workers = running[0].worker_pids()
        running[0].signal(signal.SIGKILL)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        running[0].wait()
        proxy.wait_for("one", "DOWN")
        clients.wait_for_more()
    say(f"one daemon killed: {clients.answered} GETs, failed {dict(clients.failed) or 0}")
    assert not clients.failed
    with Clients(proxy.address, writes=True) as clients:
        clients.wait_for_more(20)
    assert not clients.failed
