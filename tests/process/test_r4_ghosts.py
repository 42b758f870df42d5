"""R4: of the POSTs sent across reloads, a recycling and a stop, the executed are exactly the answered."""

from __future__ import annotations

import pytest


@pytest.mark.also_without_preload
def test_r4_no_ghost_across_reloads(recording, load, say):
    one = recording(workers=2, delay=0.01).start()
    with load(one, method="POST", mode="mix", connections=24) as running:
        for _ in range(3):
            assert one.ask("reload")["ok"]
        figures = running.stop()
    say(f"3 reloads: {figures}")
    assert figures.errors == 0, figures
    assert one.stop() == 0


def test_r4_no_ghost_at_a_stop(recording, load, say):
    one = recording(workers=2, delay=0.01).start()
    with load(one, method="POST", mode="mix", connections=24) as running:
        assert one.stop() == 0
        figures = running.stop()
    say(f"a stop: {figures}")
    assert figures.ghosts == figures.lost == figures.twice == 0, figures
    # Who connects after the last look into the queue and before the socket is closed is reset by the kernel, and never served.
    assert set(figures.failures) <= {"refused", "reset"}, figures


@pytest.mark.slow
def test_r4_no_ghost_across_thirty_reloads(recording, load, say):
    one = recording(workers=4, delay=0.005).start()
    with load(one, method="POST", mode="mix", connections=64, body=5000) as running:
        for _ in range(30):
            assert one.ask("reload")["ok"]
        figures = running.stop()
    say(f"30 reloads: {figures}")
    assert figures.errors == 0, figures
    assert one.stop() == 0
