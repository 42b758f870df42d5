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
        wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == engine.total(scoreboard.STUCK) == (not ended))
        assert engine.total(scoreboard.TIMEOUTS) == 1


@pytest.mark.only("threads", "nothing can be thrown into a native thread: it ends by itself, after its answer")
def test_a_request_that_returns_after_its_answer_gives_its_slot_back_and_is_counted_once(serving):
    with serving(framing.app, Http(request_timeout=0.3, pool_size=1)) as engine:
        with Connection(engine.address) as slow, Connection(engine.address) as next_one:
            slow.send(request_bytes(path="/sleep?1.2"))
            wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == 1)
            next_one.send(request_bytes())
            assert slow.answer().status == 503
            assert slow.rest() == b""
            wait_for(lambda: engine.total(scoreboard.STUCK) == 1)
            assert not next_one.ended()
            assert engine.total(scoreboard.REQUESTS) == 1
            assert next_one.answer().body == b"body"
        wait_for(lambda: engine.total(scoreboard.STUCK) == engine.total(scoreboard.IN_FLIGHT) == 0)
        assert (engine.total(scoreboard.REQUESTS), engine.total(scoreboard.STATUS_5XX)) == (2, 1)
        wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 0)  # the worker learns of a close after the client
