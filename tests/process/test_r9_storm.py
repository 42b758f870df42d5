"""R9: a storm of signals leaves no orphan and no worker twice, and ends where it was told last."""

from __future__ import annotations

import random
import signal
import time

import pytest

from tests.support import processes
from tests.support.processes import wait_until


def storm(one, count, seconds, also):
    """Send `count` HUPs in `seconds`, mixed with others; the seed is in the message of a failure."""
    seed = time.time_ns()
    chance = random.Random(seed)
    for number in range(count):
        one.signal(signal.SIGHUP)
        if number % 5 == 0:
            one.signal(chance.choice(also))
        time.sleep(seconds / count)  # the pace of the storm
    return seed


def judge(one, seed):
    """After the storm: settle, then stop; everybody is gone."""
    wait_until(lambda: calm(one), f"calm after the storm of seed {seed}", 90, 0.1)
    workers = one.status()["workers"]
    assert sorted(worker["slot"] for worker in workers) == list(range(one.status()["wanted"])), (seed, workers)
    assert len({worker["generation"] for worker in workers}) == 1, (seed, workers)
    pids = one.worker_pids()
    assert sorted(pids) == sorted(worker["pid"] for worker in workers), seed
    assert one.stop() == 0
    assert not [pid for pid in pids if processes.alive(pid)], seed


def calm(one):
    status = one.status()
    return (
        status["change"] is None
        and status["ready"] == status["wanted"] == len(status["workers"])
        and status["phase"] == "running"
    )


@pytest.mark.also_without_preload
def test_r9_a_small_storm(recording, load):
    one = recording(workers=2).start()
    with load(one, mode="mix", connections=8, processes=1) as running:
        seed = storm(one, 30, 1.5, [signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1])
        wait_until(lambda: calm(one), f"calm after the storm of seed {seed}", 90, 0.1)
        figures = running.stop()
    assert figures.errors == 0, (seed, figures)
    judge(one, seed)


@pytest.mark.slow
def test_r9_two_hundred_in_ten_seconds(recording, load, say):
    one = recording(workers=2).start()
    with load(one, mode="mix", connections=16) as running:
        seed = storm(one, 200, 10, [signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1])
        wait_until(lambda: calm(one), f"calm after the storm of seed {seed}", 120, 0.1)
        figures = running.stop()
    say(f"seed {seed}: {one.status()['generation']} generations; {figures}")
    assert figures.errors == 0, (seed, figures)
    judge(one, seed)


@pytest.mark.also_without_preload
def test_r9_a_stop_in_the_middle_of_a_reload_wins(recording):
    one = recording(workers=2).start()
    for _ in range(3):
        one.signal(signal.SIGHUP)
    one.wait_for_log("is being prepared")
    assert one.stop() == 0
    assert one.worker_pids() == []
    one.allow("reload failed.*told to stop")
