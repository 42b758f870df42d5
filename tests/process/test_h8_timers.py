"""H8: signals that an application handles itself are its own; the log names those that nobody handles, once."""

from __future__ import annotations

import time

import pytest

from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.processes import wait_until

TICKS = 20


@pytest.mark.both_engines(slow=True)
@pytest.mark.parametrize("workers", [1, 0])
def test_h8_a_signal_with_a_handler_of_the_application_is_not_in_the_log(daemon, workers):
    one = daemon(paste=pipeline("ticking"), workers=workers).start()
    one.allow("no control socket")
    wait_until(lambda: int(get(one.address).body) > TICKS, "the timer runs")
    assert "SIGALRM" not in one.log()
    assert one.stop() == 0


@pytest.mark.parametrize("workers", [1, 0])
def test_h8_a_signal_without_a_handler_is_in_the_log_once(daemon, workers):
    one = daemon(paste=pipeline("ticking", handler="none"), workers=workers)
    one.allow("no control socket", "received SIGALRM")
    one.start()
    one.wait_for_log("received SIGALRM, for which the application has no handler")
    time.sleep(0.5)  # ten more of them
    assert one.log().count("SIGALRM") == 1
    assert one.stop() == 0
