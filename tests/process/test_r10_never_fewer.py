"""R10: ready workers never fall below the wanted number while they are exchanged, and never are more than twice as many alive."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from tests.support.apps import pipeline
from tests.support.client import Connection
from tests.support.daemon import Daemon

W = 3


class Sampler(threading.Thread):
    """Asks for the status every 10 ms: how many were READY, and how many alive."""

    def __init__(self, one: Daemon) -> None:
        super().__init__()
        self.one, self.over = one, threading.Event()
        self.ready: list[int] = []
        self.alive: list[int] = []

    def run(self) -> None:
        while not self.over.wait(0.01):
            workers = self.one.status()["workers"]
            self.ready.append(sum(worker["stage"] == "ready" for worker in workers))
            self.alive.append(len(workers))

    def stop(self) -> None:
        self.over.set()
        self.join(10)


@contextlib.contextmanager
def sampled(one, say):
    sampler = Sampler(one)
    sampler.start()
    try:
        yield sampler
    finally:
        sampler.stop()
    least, most = min(sampler.ready), max(sampler.ready)
    say(f"{len(sampler.ready)} samples: ready {least} to {most}, alive at most {max(sampler.alive)}")
    assert min(sampler.ready) >= W, sampler.ready
    assert max(sampler.alive) <= 2 * W, sampler.alive


@pytest.mark.also_without_preload
def test_r10_during_reloads(daemon, say):
    one = daemon(paste=pipeline("hello"), workers=W).start()
    with sampled(one, say) as sampler:
        for _ in range(3):
            assert one.ask("reload")["ok"]
    assert max(sampler.alive) > W, "the sampler saw both generations"
    assert one.stop() == 0


@pytest.mark.also_without_preload
@pytest.mark.parametrize("option", [{"max_requests": 50}], ids=["max_requests"])
def test_r10_during_recycling(daemon, say, option):
    one = daemon(paste=pipeline("hello"), workers=W, **option).start()
    before = set(one.wait_for_workers(W))
    with sampled(one, say):
        deadline = time.monotonic() + 30
        while before & set(one.worker_pids()):
            assert time.monotonic() < deadline, "every worker is recycled in the end"
            with Connection(one.address) as connection:
                for _ in range(20):
                    if connection.request().closes:
                        break
    one.wait_for_log("worker ended: recycle", count=W)
    assert one.stop() == 0
