"""O2: one read shows everything, also when every worker hangs: the parent answers, and nobody else is asked."""

from __future__ import annotations

import signal

import pytest

from tests.support.client import Connection, get
from tests.support.processes import wait_until

pytestmark = pytest.mark.both_engines

HANGING = "[app:main]\npaste.app_factory = tests.support.apps.hanging:factory\n"


@pytest.mark.parametrize("workers", [2, pytest.param(32, marks=pytest.mark.slow)])
def test_every_worker_hangs_and_status_answers(daemon, workers):
    one = daemon(
        paste=HANGING,
        workers=workers,
        pool_size=1,
        worker_timeout=300,
        startup_timeout=170,
        graceful_shutdown_timeout=1,
    )
    one.allow("stalled", "killed")
    one.start(deadline=170)
    assert get(one.address).status == 200
    held = []
    try:
        while len(held) < workers:  # whoever still accepts gets the next one
            connection = Connection(one.address)
            connection.send(f"GET /sleep?{len(held)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            held.append(connection)
            wait_until(lambda: busy(one) == len(held), f"{len(held)} workers are busy", 30)
        found = one.status()
        waiting = Connection(one.address)
        held.append(waiting)
        wait_until(lambda: one.status()["listeners"][0]["queue"]["depth"] == 1, "a connection that nobody accepts", 30)
        wait_until(lambda: all(worker["stalled"] for worker in one.status()["workers"]), "all are seen to hang", 30)
        lines = sorted(worker["oldest"]["line"] for worker in found["workers"])
        assert lines == sorted(f"GET /sleep?{number} HTTP/1.1" for number in range(workers))
        assert all(worker["limit"] == 1 for worker in found["workers"])
        table = one.apidctl("status").stdout
        assert f"{workers} of {workers} workers ready; {workers} stalled" in " ".join(table.split())
        assert table.count("stalled") == workers + 1
    finally:
        for connection in held:
            connection.close()
        one.stop(signal.SIGINT)


def busy(one) -> int:
    return sum(worker["oldest"] is not None for worker in one.status()["workers"])
