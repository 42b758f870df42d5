"""What becomes of a connection after each request: every `Outcome`, with what the client sees of it."""

import pytest

from apid import scoreboard
from apid.conf.settings import Http
from apid.server.engines.base import Outcome
from apid.server.phase import Phase
from tests.support.apps import framing
from tests.support.client import AnswerError, request_bytes
from tests.support.memory import END, RESET, MemoryConnection

CLOSE = {"Connection": "close"}
CHUNKED = {"Transfer-Encoding": "chunked"}
UPLOAD = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
OLD = b"GET %b HTTP/1.0\r\n\r\n"


@pytest.fixture
def connect(board):
    return lambda app=framing.app, **options: MemoryConnection(app, board.row(0), **options)


def takes(env, start):
    env["wsgi.input"].get_socket().send(b"taken")
    return []


KEPT = [
    (request_bytes(),),
    (request_bytes(path="/streamed"),),
    (request_bytes("HEAD", "/streamed"),),
    (request_bytes(path="/204"),),
    (request_bytes(path="/426"),),
    (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",),
    (request_bytes("POST", "/echo", body=b"abc"),),
    (request_bytes("POST", "/", body=b"x" * 1000),),  # nobody reads it
    (UPLOAD % (b"/", 9), b"abc", b"defghi"),  # nor this, and it comes later
    (request_bytes("POST", "/", headers=CHUNKED), b"3\r\nabc\r\n0\r\n\r\n"),
]
LINGERS = [
    ((request_bytes(path="/close"),), 200),
    ((request_bytes(path="/426-close"),), 426),
    ((request_bytes(path="/raise"),), 500),
    ((request_bytes(path="/silent"),), 500),
    ((request_bytes(path="/crlf"),), 500),
    ((request_bytes(headers=CLOSE) + b"more",), 200),
    ((UPLOAD % (b"/", 99999999),), 200),  # more than is thrown away
    ((UPLOAD % (b"/echo", 9), b"abc"), 408),
    ((UPLOAD % (b"/echo", 9), b"abc", END), 400),
    ((request_bytes("POST", "/echo", headers=CHUNKED), b"no\r\n"), 400),
    ((request_bytes("POST", "/catches?422", headers=CHUNKED), b"no\r\n"), 422),
    ((request_bytes("POST", "/catches?500", headers=CHUNKED), b"no\r\n"), 400),
    ((b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",), 200),
]
UNANNOUNCED = [
    (request_bytes(path="/long"),),
    (UPLOAD % (b"/", 9), b"abc"),  # nobody reads it, and the rest does not come
]
CLOSES = [
    (request_bytes(headers=CLOSE),),
    (OLD % b"/",),
    (OLD % b"/streamed",),
    (request_bytes(path="/short"),),
    (request_bytes(path="/fails-late"),),
    (request_bytes(path="/too-late"),),
    (UPLOAD % (b"/echo", 9), b"abc", RESET),
]


@pytest.mark.parametrize("script", KEPT)
def test_keep_alive(connect, script):
    one = connect().send(*script)
    assert (one.outcomes, one.phase) == ([Outcome.KEEP_ALIVE], Phase.IDLE)
    one.send(request_bytes(path="/list"))
    assert one.outcomes == [Outcome.KEEP_ALIVE] * 2
    assert one.wire.sent.endswith(b"\r\n\r\nonetwo")
    one.send(END)
    assert (one.kept, one.wire.said_end, one.wire.closed) == (True, False, True)


@pytest.mark.parametrize("follows", [b"", request_bytes(), b"GET / HT"])
def test_a_head_larger_than_one_read_on_a_kept_connection(connect, follows):
    """What one edge reports has to be read to its end: no second one comes."""
    large = request_bytes(headers={"X-A": "a" * 15000, "X-B": "b" * 15000})
    one = connect().send(request_bytes(), large + follows)
    assert one.outcomes == [Outcome.KEEP_ALIVE] * (3 if follows == request_bytes() else 2)
    assert one.phase is (Phase.HEAD if follows == b"GET / HT" else Phase.IDLE)


@pytest.mark.parametrize(("script", "status"), [*LINGERS, *((script, 200) for script in UNANNOUNCED)])
def test_linger(connect, script, status):
    """Our end is said, and what the client still sends is read, or a reset might destroy the answer (RFC 9112 §9.6)."""
    one = connect().send(*script)
    assert one.outcomes == [Outcome.LINGER]
    [answer], rest = one.answers("GET")
    assert (answer.status, answer.closes, rest) == (status, script not in UNANNOUNCED, b"")
    assert one.wire.said_end
    if END not in script:
        assert (one.phase, one.wire.closed) == (Phase.LINGER, False)
        one.send(b"x" * 100000, request_bytes())
        assert (one.phase, one.wire.unread, one.outcomes) == (Phase.LINGER, b"", [Outcome.LINGER])
        one.send(END)
    assert (one.phase, one.wire.closed, one.wire.reset) == (Phase.CLOSED, True, False)


@pytest.mark.parametrize("script", CLOSES)
def test_close(connect, script):
    one = connect().send(*script)
    assert (one.outcomes, one.phase) == ([Outcome.CLOSE], Phase.CLOSED)
    assert (one.wire.closed, one.wire.said_end, one.wire.reset) == (True, False, False)


@pytest.mark.parametrize("path", [b"/fails-late", b"/too-late"])
def test_reset(connect, path):
    """The end of such an answer would look like its completion."""
    one = connect().send(OLD % path)
    assert (one.outcomes, one.phase) == ([Outcome.RESET], Phase.CLOSED)
    assert (one.wire.closed, one.wire.reset) == (True, True)


def test_detached(connect):
    one = connect(takes).send(request_bytes() + b"of another protocol")
    assert (one.outcomes, one.phase) == ([Outcome.DETACHED], Phase.CLOSED)
    assert one.executor.taken == [(one.wire, b"of another protocol")]
    assert (one.wire.sent, one.wire.shut, one.wire.closed) == (b"taken", True, True)


@pytest.mark.parametrize("path", ["/long", "/long-list"])
def test_more_than_the_length_is_cut(connect, path):
    one = connect().send(request_bytes(path=path))
    [answer], rest = one.answers("GET")
    assert (len(answer.body), rest, one.outcomes) == (2, b"", [Outcome.LINGER])


@pytest.mark.parametrize("path", ["/short", "/short-list", "/fails-late", "/too-late"])
def test_an_answer_that_is_not_complete_looks_so(connect, path):
    one = connect().send(request_bytes(path=path))
    with pytest.raises(AnswerError):
        one.answers("GET")


def test_what_waits_for_room_is_sent_when_the_client_reads(connect):
    one = connect(room=1000).send(request_bytes(path="/big?3") + request_bytes())
    [big, small], rest = one.answers("GET", "GET")
    assert (len(big.body), small.body, rest) == (3 * 65536, b"body", b"")
    assert one.outcomes == [Outcome.KEEP_ALIVE] * 2


def test_a_client_that_does_not_read_is_cut_and_counted(connect, board):
    one = connect(room=1000, reads=False).send(request_bytes(path="/big?3"))
    assert (one.outcomes, one.phase) == ([Outcome.CLOSE], Phase.CLOSED)
    assert len(one.wire.sent) == 1000
    assert board.row(0).cells[scoreboard.TIMEOUTS] == 1


def test_continue_is_said_when_the_application_reads(connect):
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    one = connect().send(head, b"abc")
    assert one.wire.sent.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    together = connect().send(head + b"abc")
    for each in (one, together):
        [answer], _ = each.answers("POST")
        assert (answer.body, each.outcomes) == (b"abc", [Outcome.KEEP_ALIVE])


def test_without_keep_alive_each_answer_says_so(connect):
    one = connect(settings=Http(keepalive=False)).send(request_bytes() + request_bytes())
    [answer], rest = one.answers("GET")
    assert (answer.closes, rest, one.outcomes) == (True, b"", [Outcome.LINGER])
