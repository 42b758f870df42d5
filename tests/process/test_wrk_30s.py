"""What the main job is done by: wrk for 30 s at two workers, a reload and the kill of a worker meanwhile."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support import wrk
from tests.support.apps import pipeline

SECONDS = 30


@pytest.mark.slow
def test_thirty_seconds_of_wrk_with_a_reload_and_a_killed_worker(daemon, say, tmp_path):
    one = daemon(paste=pipeline("hello"), workers=2).start()
    log = tmp_path / "wrk.log"
    begun = time.monotonic()
    running = wrk.start(f"http://127.0.0.1:{one.port}/", log, seconds=SECONDS, connections=64)
    one.allow("crash:SIGKILL")
    time.sleep(SECONDS / 3)  # a third of the load with nothing, a third after the reload, a third after the kill
    one.signal(signal.SIGHUP)
    one.wait_ready(2)
    one.wait_for_log("worker ended: reload", count=2)
    status = one.status()
    victim = next(worker for worker in status["workers"] if worker["stage"] == "ready")
    time.sleep(max(0.0, begun + SECONDS * 2 / 3 - time.monotonic()))
    held = next(worker["connections"] for worker in one.status()["workers"] if worker["pid"] == victim["pid"])
    os.kill(victim["pid"], signal.SIGKILL)
    one.wait_for_workers(2, but=[victim["pid"]])
    figures = wrk.finish(running, log)
    say(f"the killed worker held {held} connections; {figures}")
    # each connection of the killed worker may fail once, in its read or in the write that came too late; nothing else may
    assert figures.connect == figures.timeout == figures.non_2xx == 0, figures
    assert figures.read + figures.write <= held, figures
    assert one.stop() == 0
