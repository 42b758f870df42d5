"""H1 and H2: a worker that hangs is found, shown and replaced, whatever hangs it; one that does not is never killed."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import processes
from tests.support.apps import hanging, pipeline
from tests.support.client import Connection, get, request_bytes
from tests.support.processes import wait_until

pytestmark = pytest.mark.timing

TIMEOUT = 2


@pytest.mark.both_engines(slow=True)
@pytest.mark.parametrize("how", hanging.HOWS)
def test_h1_a_hung_worker_is_shown_and_replaced(daemon, say, engine, how):
    one = daemon(paste=pipeline("hanging"), workers=2, pool_size=1, worker_timeout=TIMEOUT).start()
    workers = set(one.wait_for_workers(2))
    with Connection(one.address, timeout=30) as connection:
        victim = int(re.search(r"pid=(\d+)", connection.request().text)[1])
        connection.send(request_bytes("GET", f"/{how}"))
        started = time.monotonic()
        (sibling,) = workers - {victim}
        wait_until(lambda: not processes.alive(victim), "the hung worker is killed", 30)
        found = time.monotonic() - started
        pids = one.wait_for_workers(2, but=[victim])
        wait_until(lambda: one.status()["ready"] == 2, "its successor is ready", 10)
        replaced = time.monotonic() - started - found
        assert sibling in pids, "the sibling is unharmed"
        assert connection.rest() == b""
    say(f"found after {found:.2f} s with worker_timeout {TIMEOUT} s, replaced {replaced:.2f} s later")
    assert TIMEOUT - 1 <= found <= TIMEOUT + 2
    log = one.log()
    assert f"GET /{how}" in log
    assert re.search(r"hung", log)
    # A C call that keeps the interpreter's lock shows its stack when it is killed; in the main thread this one lets handlers in.
    stalled = r"\(it wrote no stack" if (engine, how) == ("threads", "gil") else r"hanging\.py"
    for what, shown in (("stalled", stalled), ("hung", r"hanging\.py")):
        assert re.search(rf"{what}: .*\n(?:  .*\n)*?  .*{shown}", log), f"the stack shows where it has {what}"
    wait_until(lambda: one.status()["ends"]["hung"] == 1, "its end has a cause")  # the parent may learn of it after us
    one.allow(".")
    assert get(one.address).status == 200
    assert one.stop() == 0


@pytest.mark.slow
def test_h2_a_parent_that_was_stopped_accuses_nobody(daemon):
    one = daemon(paste=pipeline("hello"), workers=2, worker_timeout=TIMEOUT).start()
    workers = one.wait_for_workers(2)
    os.kill(one.pid, signal.SIGSTOP)
    try:
        time.sleep(TIMEOUT * 2)  # it must be away for longer than its own patience
    finally:
        os.kill(one.pid, signal.SIGCONT)
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        assert get(one.address).status == 200
        time.sleep(0.05)
    assert one.wait_for_workers(2) == workers
    assert one.stop() == 0


@pytest.mark.both_engines(slow=True)
def test_h2_a_streaming_answer_and_idle_connections_are_no_hang(daemon):
    one = daemon(paste=pipeline("streaming"), workers=1, pool_size=1, worker_timeout=TIMEOUT).start()
    workers = one.wait_for_workers(1)
    with Connection(one.address) as idle, Connection(one.address, timeout=20) as connection:
        assert idle.request("GET", "/?n=1&i=0").status == 200
        answer = connection.request("GET", f"/?n={10 * TIMEOUT}&i=0.2")
        assert answer.text.count("line") == 10 * TIMEOUT
    assert one.wait_for_workers(1) == workers
    assert one.stop() == 0


@pytest.mark.both_engines(slow=True)
def test_h2_a_stack_that_is_asked_for_costs_nothing(daemon):
    """Native threads compute while the stack is read: in requests, or beside the loop."""
    one = daemon(paste=pipeline("computing"), workers=1).start()
    (worker,) = one.wait_for_workers(1)
    over = threading.Event()

    def ask():
        with Connection(one.address, timeout=30) as connection:
            while not over.is_set():
                assert connection.request().status == 200

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        for _ in range(500):
            os.kill(worker, signal.SIGUSR2)
            time.sleep(0.002)  # the next one finds other frames
        over.set()
        for each in asking:
            each.result()
    assert one.wait_for_workers(1) == [worker]
    assert one.stop() == 0
