"""H2: nobody is killed for what is not its fault: a parent that was away, slow clients, very many of them."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import Connection, get, request_bytes
from tests.support.processes import wait_until

pytestmark = pytest.mark.timing


def unharmed(one, workers):
    assert one.worker_pids() == workers
    assert "killed" not in one.log()
    assert one.status()["ends"].get("hung", 0) == 0


@pytest.mark.slow
def test_h2_everybody_was_stopped_for_a_minute(daemon):
    """A suspended machine, a frozen container: nobody ran, the clock did."""
    one = daemon(paste=pipeline("hello"), workers=2, worker_timeout=4).start()
    one.allow("stalled")  # the parent looks before the workers have beaten: it may say so, and no more
    workers = one.wait_for_workers(2)
    for pid in [*workers, one.pid]:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(60)  # the minute is the test
    for pid in [one.pid, *workers]:
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.2)  # the parent looks before the workers have beaten
    end = time.monotonic() + 6
    while time.monotonic() < end:
        assert get(one.address).status == 200
    unharmed(one, workers)
    assert one.stop() == 0


@pytest.mark.both_engines(slow=True)
def test_h2_a_worker_that_stops_for_less_than_its_time_goes_on(daemon):
    one = daemon(paste=pipeline("hello"), workers=1, worker_timeout=8).start()
    one.allow("stalled")
    workers = one.wait_for_workers(1)
    os.kill(workers[0], signal.SIGSTOP)
    one.wait_for_log("stalled: its loop has not turned")
    os.kill(workers[0], signal.SIGCONT)
    one.wait_for_log("beats again")
    assert "(it wrote no stack: it is stopped" in one.log()
    assert get(one.address).status == 200
    unharmed(one, workers)
    assert one.stop() == 0


@pytest.mark.parametrize("what", ["reads slowly", "has its socket"])
def test_h2_a_client_that_has_the_only_slot_of_native_threads(daemon, what):
    app, path = {"reads slowly": ("big", "/?size=30000000"), "has its socket": ("changing", "/echo")}[what]
    one = daemon(engine="threads", paste=pipeline(app), workers=1, pool_size=1, worker_timeout=1).start()
    workers = one.wait_for_workers(1)
    with Connection(one.address, timeout=20) as connection:
        connection.send(request_bytes("GET", path, headers={"Connection": "Upgrade", "Upgrade": "echo"}))
        time.sleep(3)  # the time is the test
        assert one.status()["workers"][0]["in_flight"] == 1
        connection.send(b"said late")
        connection.sock.shutdown(socket.SHUT_WR)
        assert len(connection.rest()) > 40
        unharmed(one, workers)
    assert one.stop() == 0


@pytest.mark.slow
def test_h2_an_upload_of_a_minute(recording, tmp_path):
    one = recording(workers=1, worker_timeout=2).start()
    workers = one.wait_for_workers(1)
    with Connection(one.address, timeout=30) as connection:
        connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nX-Id: slow\r\nContent-Length: 120\r\n\r\n")
        for _ in range(120):
            connection.send(b"x")
            time.sleep(0.5)  # the pace of the client is the test
        assert connection.answer("POST").text.startswith("id=slow length=120")
    unharmed(one, workers)
    assert one.stop() == 0


@pytest.mark.both_engines
@pytest.mark.slow
def test_h2_ten_thousand_idle_connections(daemon, say):
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 20_000:
        pytest.skip(f"only {hard} descriptors may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, hard))
    open_ones: list[socket.socket] = []
    try:
        one = daemon(
            paste=pipeline("hello"), workers=2, worker_timeout=2, pool_size=20_000, keepalive_timeout=120
        ).start()
        workers = one.wait_for_workers(2)
        for number in range(10_000):
            sock = socket.create_connection(one.address, timeout=20)
            open_ones.append(sock)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            if number % 100 == 99:  # keep pace with the queue
                for each in open_ones[-100:]:
                    assert each.recv(4096).startswith(b"HTTP/1.1 200")
        before = processes.cpu_seconds(one.pid) + sum(map(processes.cpu_seconds, workers))
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 10, "ten seconds of idleness", 20, 0.5)
        assert one.status()["totals"]["requests"] == 10_000
        used = processes.cpu_seconds(one.pid) + sum(map(processes.cpu_seconds, workers)) - before
        rss = sum(map(processes.rss, workers))
        say(f"10 000 idle connections: {used / 10:.1%} of a CPU in all, {rss / 2**20:.0f} MiB in two workers")
        unharmed(one, workers)
        assert one.ask("reload")["ok"]
        for each in open_ones:
            each.close()
        assert one.stop() == 0
    finally:
        for each in open_ones:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
