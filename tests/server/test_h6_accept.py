"""H6: when descriptors run out, accept pauses, says so once, and recovers."""

from apid import scoreboard
from apid.conf.settings import Http
from tests.support import conditions
from tests.support.apps import framing
from tests.support.client import Connection
from tests.support.engine import wait_for


def test_a_full_descriptor_table_is_a_pause_not_the_end(serving):
    with serving(framing.app, Http(header_timeout=60), prepare=conditions.few_descriptors) as engine:
        silent = [engine.connect() for _ in range(60)]
        wait_for(lambda: engine.total(scoreboard.ACCEPT_PAUSES) >= 3, engine.logged)
        assert engine.logged().count("pauses") == 1
        assert engine.total(scoreboard.CONNECTIONS) < 40
        for one in silent[:50]:
            one.close()
        assert silent[-1].request().body == b"body"
        for one in silent[50:]:
            one.close()
        with Connection(engine.address) as after:
            assert after.request().body == b"body"


def test_the_longest_idle_connection_makes_room(serving):
    with serving(framing.app, prepare=conditions.few_descriptors) as engine:
        many = []
        for _ in range(60):
            many.append(engine.connect())
            assert many[-1].request().body == b"body"
        assert engine.total(scoreboard.ACCEPT_PAUSES) == 0
        assert many[0].rest() == b""
        assert many[-1].request().body == b"body"
        for one in many:
            one.close()
