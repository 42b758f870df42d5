"""PEP 3333, the server's side of an answer: when the head goes out, what goes out with each piece, and that `close` is called."""

import sys

import pytest

from apid.server.engines.base import Outcome
from tests.support.client import request_bytes
from tests.support.memory import END, RESET, MemoryConnection

TEXT = [("Content-Type", "text/plain")]
ASK = request_bytes()


class Body:
    """An iterable that notes what was on the wire before each piece was asked for, and how often it was closed."""

    def __init__(self, pieces, error=None):
        self.pieces = pieces
        self.error = error
        self.wire = None
        self.sent = []
        self.closed = 0

    def __iter__(self):
        for piece in self.pieces:
            self.sent.append(bytes(self.wire.sent))
            yield piece
        self.sent.append(bytes(self.wire.sent))
        if self.error:
            raise self.error

    def close(self):
        self.closed += 1


@pytest.fixture
def ask(board):
    """A function that asks an application once; returns the connection."""

    def made(app, *script, **options):
        one = MemoryConnection(app, board.row(0), **options)
        app.wire = one.wire
        if isinstance(getattr(app, "body", None), Body):
            app.body.wire = one.wire
        return one.send(*(script or (ASK,)))

    return made


def answering(result, status="200 OK", fields=()):
    def app(env, start):
        start(status, [*TEXT, *fields])
        return result

    app.body = result
    return app


def test_the_head_waits_for_the_first_octet_and_each_piece_is_sent_before_the_next_is_asked_for(ask):
    body = Body([b"", b"one", b"", b"two"])
    ask(answering(body))
    nothing, still_nothing, first, same, second = body.sent
    assert nothing == still_nothing == b""
    assert first.endswith(b"\r\n\r\n3\r\none\r\n")
    assert same == first
    assert second == first + b"3\r\ntwo\r\n"


def test_write_sends_before_it_returns_and_comes_before_what_is_returned(ask):
    seen = []

    def app(env, start):
        write = start("200 OK", TEXT)
        write(b"")
        seen.append(bytes(app.wire.sent))
        write(b"one")
        seen.append(bytes(app.wire.sent))
        return [b"two"]

    one = ask(app)
    empty, first = seen
    assert empty.endswith(b"\r\n\r\n")
    assert first == empty + b"3\r\none\r\n"
    assert one.answers("GET")[0][0].body == b"onetwo"


def test_a_generator_may_call_start_response_when_it_is_first_asked(ask):
    def app(env, start):
        start("201 Created", TEXT)
        yield b"late"

    [answer], _ = ask(app).answers("GET")
    assert (answer.status, answer.body) == (201, b"late")


def test_the_last_start_response_before_the_first_octet_counts(ask):
    def app(env, start):
        start("200 OK", [("X-First", "1")])
        try:
            raise ValueError
        except ValueError:
            start("503 Sorry", TEXT, sys.exc_info())
        return [b"", b"sorry"]

    [answer], _ = ask(app).answers("GET")
    assert (answer.status, answer.header("X-First"), answer.body) == (503, None, b"sorry")


def test_after_the_first_octet_exc_info_is_raised_again(ask):
    raised = []

    def app(env, start):
        start("200 OK", TEXT)(b"begun")
        try:
            raise ValueError("mine")
        except ValueError:
            try:
                start("503 Sorry", TEXT, sys.exc_info())
            except ValueError as error:
                raised.append(str(error))
                raise
        return []

    one = ask(app)
    assert raised == ["mine"]
    assert one.outcomes == [Outcome.CLOSE]
    assert b"503" not in one.wire.sent


def without_start(env, start):
    return [b"x"]


def started_twice(env, start):
    start("200 OK", TEXT)
    start("200 OK", TEXT)
    return [b"x"]


def written_before(env, start):
    yield b"x"
    start("200 OK", TEXT)


def not_iterable(env, start):
    start("200 OK", TEXT)


def no_octets(env, start):
    start("200 OK", TEXT)
    return [5]


@pytest.mark.parametrize("app", [without_start, started_twice, written_before, not_iterable, no_octets])
def test_what_breaks_the_rules_is_a_fault(ask, app):
    one = ask(app)
    [answer], rest = one.answers("GET")
    assert (answer.status, answer.closes, rest, one.outcomes) == (500, True, b"", [Outcome.LINGER])


@pytest.mark.parametrize(
    ("body", "script", "options", "status"),
    [
        (Body([b"one", b"two"]), (ASK,), {}, "200 OK"),
        (Body([]), (ASK,), {}, "200 OK"),
        (Body([b"one"]), (request_bytes("HEAD"),), {}, "200 OK"),
        (Body([b"one"]), (ASK,), {}, "304 Not Modified"),
        (Body([b"one"], ValueError()), (ASK,), {}, "200 OK"),
        (Body([], ValueError()), (ASK,), {}, "200 OK"),
        (Body([b"one", 5]), (ASK,), {}, "200 OK"),
        (Body([b"x" * 10000] * 3), (ASK, RESET), {"room": 1000, "reads": False}, "200 OK"),
        (Body([b"x" * 10000] * 3), (ASK,), {"room": 1000, "reads": False}, "200 OK"),
        (Body([b"one"]), (ASK, END), {}, "200 OK\r\nX-Injected: 1"),
    ],
    ids=[
        "whole",
        "empty",
        "head",
        "not-modified",
        "fails",
        "fails-first",
        "no-octets",
        "client-gone",
        "client-slow",
        "no-status",
    ],
)
def test_close_is_called_once_however_it_ends(ask, body, script, options, status):
    ask(answering(body, status), *script, **options)
    assert body.closed == (0 if "Injected" in status else 1)  # start_response has raised: nothing was returned


@pytest.mark.parametrize(
    ("method", "status", "fields", "length", "chunked"),
    [
        ("GET", "200 OK", [], "6", False),
        ("GET", "200 OK", [("Content-Length", "6")], "6", False),
        ("HEAD", "200 OK", [], "6", False),
        ("HEAD", "200 OK", [("Content-Length", "99")], "99", False),
        ("GET", "204 No Content", [("Content-Length", "6")], None, False),
        ("GET", "304 Not Modified", [("Content-Length", "99")], "99", False),
    ],
)
def test_the_length_of_a_list_is_known(ask, method, status, fields, length, chunked):
    one = ask(answering([b"one", b"two"], status, fields), request_bytes(method))
    [answer], rest = one.answers(method)
    assert (answer.header("Content-Length"), answer.chunked, rest) == (length, chunked, b"")
    assert answer.body == (b"onetwo" if method == "GET" and status == "200 OK" else b"")
    assert one.outcomes == [Outcome.KEEP_ALIVE]


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_small_answers_go_out_in_one_send(ask, kind):
    sends = []

    def app(env, start):
        start("200 OK", TEXT)
        return kind([b"small"])

    def counting(data, send=None):
        sends.append(len(data))
        return send(data)

    one = ask(app, b"")
    send = one.wire.send
    one.wire.send = lambda data: counting(data, send)
    one.send(ASK)
    [answer], _ = one.answers("GET")
    assert answer.body == b"small"
    assert len(sends) == (1 if kind is list else 2)  # the last chunk is one of its own
