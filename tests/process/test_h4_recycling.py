"""H4: a worker is recycled after max_requests or past max_worker_rss, its successor first: no error even with one worker."""

from __future__ import annotations

import re

import pytest

from tests.support.apps import pipeline
from tests.support.client import get


@pytest.mark.also_without_preload
@pytest.mark.both_engines(slow=True)
def test_h4_max_requests_with_a_single_worker(recording, load, say):
    one = recording(workers=1, max_requests=300, max_requests_jitter=50).start()
    with load(one, mode="mix", connections=8, processes=1) as running:
        one.wait_for_log("worker ended: recycle", 30, count=3)
        figures = running.stop()
    say(str(figures))
    assert figures.errors == 0, figures
    assert len(figures.pids) >= 4
    assert one.stop() == 0


@pytest.mark.also_without_preload
@pytest.mark.both_engines
def test_h4_max_worker_rss(daemon):
    one = daemon(paste=pipeline("leaking", kib=4096), workers=1, max_worker_rss=120 * 1024 * 1024).start()
    (first,) = one.wait_for_workers(1)
    for _ in range(60):
        answer = get(one.address)
        assert answer.status == 200
        if f"pid={first}" not in answer.text:
            break
    one.wait_for_log("worker ended: rss", 20)
    assert int(re.search(r"pid=(\d+)", get(one.address).text)[1]) != first
    assert one.stop() == 0
