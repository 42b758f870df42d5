"""H5 with workers that cannot notice the parent's death: the port is free, and healthy siblings answer what they have.

Under engine = threads most of them do notice: only their request is blocked, and they end it at the deadline of their drain.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import time

import pytest

from tests.support import processes
from tests.support.apps import hanging, pipeline
from tests.support.client import Connection, request_bytes
from tests.support.processes import wait_until

SOON = 2.0
"""Seconds from the parent's death until the port is free."""

TO_A_GROUP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


@pytest.fixture
def hangs(daemon, tmp_path):
    """A function that starts a daemon of `hanging` with one slot a worker; `began` is the file that says that a worker blocks."""

    def make(**options):
        options = {"pool_size": 1, "graceful_shutdown_timeout": 2, **options}
        one = daemon(paste=pipeline("hanging", began=tmp_path / "began"), **options).start()
        one.began = tmp_path / "began"
        one.allow("is killed: the parent is gone", "reload failed", "drain deadline cut")
        return one

    return make


def worker_of(connection):
    return int(connection.request().text.partition("pid=")[2])


def block(one, connection, how):
    """Block the worker that has this connection."""
    if how == "stopped":
        os.kill(worker_of(connection), signal.SIGSTOP)
        return
    connection.send(request_bytes("GET", f"/{how}"))
    wait_until(one.began.exists, "the worker is blocked")


def guard():
    """Pid of the guard, an orphan, hence a child of this process (a subreaper)."""
    (pid,) = (pid for pid in processes.children() if processes.command(pid) == "apid: guard")
    return pid


def kill_parent(one):
    os.kill(one.pid, signal.SIGKILL)
    killed = time.monotonic()
    one.wait()
    return killed


def refuses(address):
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    with socket.socket(family) as sock:
        return sock.connect_ex(address) != 0


def nobody_is_left():
    wait_until(lambda: not any(map(processes.alive, processes.children())), "guard and workers have ended", 10)


@pytest.mark.both_engines(slow=True)
@pytest.mark.timing
@pytest.mark.parametrize("how", [*hanging.HOWS, "stopped"])
def test_h5_a_blocked_worker_does_not_keep_the_port(hangs, say, how):
    one = hangs(workers=1)
    address = one.address
    with Connection(address) as connection:
        block(one, connection, how)
        killed = kill_parent(one)
        wait_until(lambda: refuses(address), "nobody listens", 10)
        took = time.monotonic() - killed
        say(f"the port was free {took:.2f} s after the parent's death")
        assert took <= SOON
    nobody_is_left()
    if how != "stopped":
        assert re.search(rf"(in flight:|the drain deadline cut:) GET /{how}\b", one.log())


@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_h5_healthy_siblings_of_a_blocked_worker_answer_what_they_have(hangs, tmp_path, where):
    bind = {"bind": f"unix:{tmp_path / 's'}"} if where == "unix" else {}
    one = hangs(workers=2, graceful_shutdown_timeout=5, **bind)
    address = str(tmp_path / "s") if bind else one.address
    with Connection(address) as healthy:
        keep = worker_of(healthy)
        others = [Connection(address) for _ in range(20)]
        victim = next(other for other in others if worker_of(other) != keep)
        healthy.send(request_bytes("GET", "/?after=3"))
        block(one, victim, "lock")
        kill_parent(one)
        wait_until(lambda: refuses(address), "nobody listens", 10)
        assert f"pid={keep}" in healthy.answer().text
        for other in others:
            other.close()
    nobody_is_left()


@pytest.mark.slow
def test_h5_a_worker_that_is_blocked_while_the_parent_lives_is_left_alone(hangs):
    """Whatever is sent to all processes of the daemon: the guard acts on the parent's death only, and does not miss it."""
    one = hangs(workers=1)
    address = one.address
    with Connection(address) as connection:
        victim = worker_of(connection)
        block(one, connection, "sleep")
        for number in TO_A_GROUP:
            os.kill(guard(), number)
        os.kill(victim, signal.SIGHUP)
        one.wait_for_log("stalled: its loop has not turned")
        time.sleep(1)  # longer than the guard's patience
        assert processes.alive(victim)
        kill_parent(one)
        wait_until(lambda: refuses(address), "nobody listens", 10)
    nobody_is_left()


@pytest.mark.slow
@pytest.mark.both_engines(slow=True)
def test_h5_a_drain_without_a_parent_that_blocks_ends_after_its_deadline(hangs):
    one = hangs(workers=1, graceful_shutdown_timeout=2)
    address = one.address
    with Connection(address) as connection:
        connection.send(request_bytes("GET", "/gil?after=1.5"))
        wait_until(lambda: one.status()["workers"][0]["in_flight"] == 1, "it is in flight")
        kill_parent(one)
        wait_until(lambda: refuses(address), "nobody listens", 10)
        assert not one.began.exists(), "the port is free before the request blocks"
        nobody_is_left()
    assert "its drain has exceeded the deadline" in one.log()


def test_h5_an_upgrade_keeps_the_guard(hangs):
    one = hangs(workers=1)
    address = one.address
    before = guard()
    one.apidctl("upgrade")
    assert guard() == before
    with Connection(address) as connection:
        block(one, connection, "loop")
        kill_parent(one)
        wait_until(lambda: refuses(address), "nobody listens", 10)
    nobody_is_left()


def test_h5_the_guard_holds_nothing_and_ends_with_the_daemon(hangs):
    one = hangs(workers=2)
    pid = guard()
    held = {name for name in processes.descriptors(pid).values() if "pidfd" not in name}
    assert held == {os.devnull, str(one.log_path)}
    assert one.stop() == 0
    nobody_is_left()
