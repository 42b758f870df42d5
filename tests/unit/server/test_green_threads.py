"""What an application may do to its green thread, and what stays of it for the next request."""

import contextvars

import pytest

from apid.conf.settings import Http
from tests.support.apps.framing import TEXT
from tests.support.client import Connection
from tests.support.engine import serving, wait_for

SEEN = contextvars.ContextVar("SEEN", default="nothing")
ENDED = []
PIECE = b"x" * 65536
PIECES = 256


def app(env, start):
    import eventlet

    said = SEEN.get()
    match env["PATH_INFO"]:
        case "/spawn-exit":
            eventlet.spawn(exit_now)
            eventlet.sleep(0.01)
        case "/link":
            eventlet.getcurrent().link(lambda _: ENDED.append("linked"))
        case "/kill":
            eventlet.kill(eventlet.getcurrent())
        case "/ended":
            said = ",".join(ENDED)
        case "/set":
            SEEN.set("mine")
        case "/download":
            start("200 OK", TEXT)
            return with_turns(lambda: (PIECE for _ in range(PIECES)))
        case "/upload":
            start("200 OK", TEXT)
            return with_turns(lambda: (b"" for _ in iter(lambda: env["wsgi.input"].read(65536), b"")))
    start("200 OK", TEXT)
    return [said.encode()]


def with_turns(pieces):
    """The pieces, each a piece of work, and then how often another green thread has had a turn meanwhile."""
    import eventlet
    from eventlet import patcher

    work = patcher.original("time").sleep
    turns = 0

    def other():
        nonlocal turns
        while True:
            turns += 1
            eventlet.sleep(0)

    thread = eventlet.spawn(other)
    for piece in pieces():
        work(0.001)  # the client always keeps up: there is never a reason to wait for it
        yield piece
    thread.kill()
    yield b" %d" % turns


def exit_now():
    raise SystemExit(5)


@pytest.fixture(scope="module")
def engine():
    with serving(app, Http(pool_size=2)) as engines:
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


def test_context_variables_are_new_for_each_request(connection):
    assert connection.request(path="/set").text == "nothing"
    assert connection.request().text == "nothing"


@pytest.mark.parametrize(("method", "path", "body"), [("GET", "/download", None), ("POST", "/upload", PIECE * PIECES)])
def test_a_client_that_keeps_up_does_not_have_the_worker_alone(connection, method, path, body):
    answer = connection.request(method, path, body=body)
    assert int(answer.body[-10:].split()[-1]) >= PIECES // 32
