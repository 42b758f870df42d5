"""The health check says 503 from the moment a stop is asked for, while requests are still answered (drain_delay)."""

from __future__ import annotations

import signal

from tests.support.client import get
from tests.support.processes import wait_until

PASTE = """
[composite:main]
use = egg:apid#urlmap
/ = ok
/healthcheck = healthcheck

[app:healthcheck]
use = egg:apid#healthcheck

[app:ok]
use = egg:apid#limits
"""


def test_503_before_the_door_closes(daemon):
    one = daemon(paste=PASTE, workers=2, drain_delay=3).start()
    assert get(one.address, "/healthcheck").text == "OK"
    one.signal(signal.SIGTERM)
    wait_until(lambda: get(one.address, "/healthcheck").status == 503, "the health check's 503", 2.5)
    answer = get(one.address, "/healthcheck")
    assert (answer.status, answer.text) == (503, "DRAINING")
    assert get(one.address, "/").status == 200
    assert one.wait() == 0
