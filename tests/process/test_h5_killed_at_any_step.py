"""H5 at the worst of times: the parent or a worker gets SIGKILL at each step of a reload and of an upgrade.

A parent that is killed leaves nobody behind and the port is free; a worker that is killed costs the change at most, and never the
daemon: afterwards there is one worker a seat, all of one generation.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.processes import wait_until

W = 2

RELOAD = {
    "prepared": r"reload: generation 2 is being prepared",
    "raising": r"generation 2 is loaded",
    "one_ready": r"ready after .*",
    "committed": r"reload: generation 2 is ready",
    "drained": r"worker ended: reload",
}
UPGRADE = {
    "preflight": r"upgrade: generation 2 is being prepared",
    "exec": r"upgraded: version",
    "raising": r"generation 2 is loaded",
    "one_ready": r"ready after .*",
    "committed": r"upgrade: generation 2 is ready",
    "drained": r"worker ended: reload",
}


def started(daemon):
    one = daemon(paste=pipeline("hello"), workers=W, graceful_shutdown_timeout=5).start()
    one.allow(r"reload failed", r"upgrade failed", r"worker ended: (crash|boot)", r"ended during boot", r"short lives")
    return one


def change(one, command, step):
    """Begin a change and wait until it has come to `step`; returns the thread that waits for the verdict, and the verdict."""
    pattern = (UPGRADE if command == "upgrade" else RELOAD)[step]
    before = len(re.findall(pattern, one.log()))
    verdict = {}

    def ask():
        with contextlib.suppress(AssertionError, OSError):
            verdict.update(one.ask(command, timeout=60))

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: len(re.findall(pattern, one.log())) > before, pattern, 30, interval=0.001)
    return thread, verdict


def family(one):
    """Everybody who descends from the parent: workers, trials, preflights."""
    return {pid for pid in processes.children(one.pid) if processes.alive(pid)}


def is_free(address):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
        return True


QUICK = [("reload", "raising"), ("upgrade", "exec")]
CASES = [
    pytest.param(command, step, marks=[] if (command, step) in QUICK else pytest.mark.slow, id=f"{command}-{step}")
    for command, steps in [("reload", RELOAD), ("upgrade", UPGRADE)]
    for step in steps
]


@pytest.mark.also_without_preload
@pytest.mark.parametrize(("command", "step"), CASES)
def test_the_parent_is_killed(daemon, say, command, step):
    one = started(daemon)
    address = one.address
    thread, _ = change(one, command, step)
    left = family(one)
    os.kill(one.pid, signal.SIGKILL)
    killed = time.monotonic()
    one.wait()
    # those whom it forked in its last moment are ours now
    wait_until(
        lambda: not any(processes.alive(pid) for pid in left | processes.children() - {one.pid}), "all leave", 20
    )
    gone = time.monotonic() - killed
    wait_until(lambda: is_free(address), "the port is free", 5)
    thread.join(10)
    say(f"everybody was gone {gone:.2f} s after the parent")


@pytest.mark.parametrize("command", ["start", "reload", "upgrade"])
def test_nobody_is_left_who_hangs_while_he_loads(daemon, tmp_path, command):
    """A worker, a trial, the child of a preflight: none of them can notice that the parent is gone."""
    how = tmp_path / "how"
    one = daemon(paste=pipeline("bad_at_load", how=how), workers=1)
    if command == "start":
        how.write_text("hang")
        one.launch()
        wait_until(lambda: family(one), "a worker boots")
    else:
        one.start()
        how.write_text("hang")
        thread, _ = change(one, command, "prepared" if command == "reload" else "preflight")
        wait_until(lambda: len(family(one)) > 1, "a trial")
    hanging = wait_until(lambda: [pid for pid in descendants(one.pid) if not processes.children(pid)], "somebody loads")
    os.kill(one.pid, signal.SIGKILL)
    one.wait()
    wait_until(lambda: not [pid for pid in hanging if processes.alive(pid)], "all leave", 10)
    wait_until(lambda: not [pid for pid in processes.children() - {one.pid} if processes.alive(pid)], "no orphan", 10)
    if command != "start":
        thread.join(10)


def descendants(pid):
    found = processes.children(pid)
    return found.union(*map(descendants, found)) if found else found


@pytest.mark.also_without_preload
@pytest.mark.parametrize("whose", ["old", "new"])
@pytest.mark.parametrize(("command", "step"), CASES)
def test_a_worker_is_killed(daemon, command, step, whose):
    one = started(daemon)
    old = set(one.wait_for_workers(W))
    thread, verdict = change(one, command, step)
    found = family(one) - set(one.mold_pids())
    victims = sorted(found & old) if whose == "old" else sorted(found - old)
    kill_first(victims)
    assert_calm(one, thread, verdict)


@pytest.mark.parametrize("whose", ["old", "new"])
@pytest.mark.parametrize(("command", "step"), CASES)
def test_a_mold_is_killed(daemon, command, step, whose):
    one = started(daemon)
    one.allow("the mold of generation .* ended")
    old = set(one.mold_pids())
    thread, verdict = change(one, command, step)
    found = set(one.mold_pids())
    kill_first(sorted(found & old) if whose == "old" else sorted(found - old))
    assert_calm(one, thread, verdict)


def kill_first(victims):
    for victim in victims[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


def assert_calm(one, thread, verdict):
    """The asker has a verdict which is true, and soon each seat has one worker, which serves, all of one generation.

    A worker that a mold gave birth to before it was killed may be seen, until it has been ended, after the verdict.
    """
    thread.join(60)
    assert not thread.is_alive(), "the asker got no verdict"
    assert verdict, one.log()

    def calm():
        status = one.status()
        seats = sorted((worker["slot"], worker["generation"]) for worker in status["workers"])
        serves = status["change"] is None and status["phase"] == "running" and status["ready"] == W
        return status if serves and seats == [(slot, status["generation"]) for slot in range(W)] else None

    status = wait_until(calm, "one ready worker a seat", 20, 0.05)
    assert verdict["ok"] == (status["generation"] == 2), (verdict, status)
    assert get(one.address).status == 200
    assert one.stop() == 0
