"""H7: request_timeout answers for that one request (503, named), ends it where it can, and disturbs no other."""

import threading

import pytest

from apid import scoreboard
from apid.conf.settings import Http
from tests.support.apps import framing
from tests.support.client import Connection, request_bytes
from tests.support.engine import wait_for


@pytest.mark.parametrize("path", ["/sleep?30", "/swallow?30"])
def test_a_request_that_takes_too_long_is_ended_and_no_other(serving, engine_name, path):
    with serving(framing.app, Http(request_timeout=0.5)) as engine, Connection(engine.address) as slow:
        slow.send(request_bytes(path=path))
        others = []

        def ask():
            with Connection(engine.address) as other:
                others.extend(other.request(path="/sleep?0.01").status for _ in range(40))

        thread = threading.Thread(target=ask)
        thread.start()
        answer = slow.answer()
        thread.join()
        assert answer.status == 503
        assert answer.closes
        assert answer.json()["serviceUnavailable"]["code"] == 503
        assert others == [200] * 40
        log = engine.logged()
        how = "ended by" if engine_name == "eventlet" else "answered, but not ended, by"
        assert f"{answer.header('X-Openstack-Request-Id')}: GET {path} HTTP/1.1 {how} request_timeout" in log
        with Connection(engine.address) as after:
            # Nothing can be thrown into a native thread: its request is still asleep.
            ended = engine_name == "eventlet"
            assert after.request(path="/last").json()["closed"] == (path == "/swallow?30" and ended)
        wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == (not ended))
        assert engine.total(scoreboard.STUCK) == (not ended)
        assert engine.total(scoreboard.TIMEOUTS) == 1
