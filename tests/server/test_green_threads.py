"""What an application may do to its green thread, and what stays of it for the next request."""

import pytest

from apid.conf.settings import Http
from tests.support.apps import green
from tests.support.client import Connection
from tests.support.engine import wait_for

pytestmark = pytest.mark.only("eventlet", "only there are green threads")


@pytest.fixture(scope="module")
def engine(serving):
    with serving(green.app, Http(pool_size=2)) as engines:
        yield engines


def test_system_exit_in_a_green_thread_of_the_application_ends_that_thread_only(engine, connection):
    assert connection.request(path="/spawn-exit").status == 200
    assert connection.request().status == 200
    assert "SystemExit: 5" in engine.logged()


def test_links_are_called_when_the_request_is_over(engine, connection):
    assert connection.request(path="/link").status == 200
    assert wait_for(lambda: connection.request(path="/ended").text == "linked")


def test_a_thread_that_kills_itself_ends_its_request(engine):
    for _ in range(5):  # more often than there are slots: none is lost
        with Connection(engine.address) as one:
            assert one.request(path="/kill").status == 500
    with Connection(engine.address) as one:
        assert one.request().status == 200
