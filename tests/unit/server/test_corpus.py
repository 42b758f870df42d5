"""Every case of tests/corpus, fed whole, octet by octet, and cut at random: to the parsers alone, and to a connection in memory.

The connection must see what the parsers see: the same requests and contents, one answer for each, and the same end.
"""

import random

import pytest

from tests.support import corpus, reading
from tests.support.memory import END, MemoryConnection

CASES = corpus.load()


def test_there_are_enough_of_them():
    assert len(CASES) >= 300
    assert all(case.rfc for case in CASES)


def check(case, found):
    assert [f"{request.method} {request.target}" for request in found.requests] == list(case.requests), found
    assert found.ending == case.ending, found.reason
    if not case.requests:
        return
    last = found.requests[-1]
    assert {key: last.environ.get(key) for key in case.environ} == case.environ
    assert not set(case.absent) & set(last.environ)
    assert case.body is None or last.body == case.body
    assert last.keep_alive is not case.close
    assert case.expect is None or last.expect_continue is case.expect


def cuts(case, count):
    """The same random cuts in every run."""
    dice = random.Random(str(case))
    for _ in range(count):
        places = [dice.randrange(len(case.octets) + 1) for _ in range(dice.randrange(1, 8))]
        yield reading.pieces(case.octets, places)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_whole_octet_by_octet_and_cut_at_random(case):
    whole = reading.read([case.octets])
    check(case, whole)
    assert reading.read([bytes([octet]) for octet in case.octets]) == whole
    for parts in cuts(case, 10):
        assert reading.read(parts) == whole, parts


class Seen:
    """An application that remembers what it was asked."""

    def __init__(self):
        self.requests = []

    def __call__(self, env, start):
        content = env["wsgi.input"].read()
        self.requests.append((dict(env), content))
        start("200 OK", [("Content-Type", "text/plain")])
        return [content]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_connection_sees_what_the_parsers_see(board, case):
    expected = reading.read([case.octets])
    octets = [bytes([octet]) for octet in case.octets]
    for parts in ([case.octets], *([octets] if len(octets) < 3000 else []), *cuts(case, 3)):
        seen = Seen()
        one = MemoryConnection(seen, board.row(0)).send(*filter(None, parts), END)
        agree(expected, seen, one)


def agree(expected, seen, one):
    requests = expected.requests
    assert len(seen.requests) == len(requests)
    for (environ, content), request in zip(seen.requests, requests, strict=True):
        assert content == request.body
        own = {key: value for key, value in request.environ.items() if key not in reading.TEMPLATE}
        assert {key: environ[key] for key in own} == own
    refusal = [expected.ending] if isinstance(expected.ending, int) else []
    if expected.ending == "incomplete":
        refusal = [400]
    answers, rest = one.answers(*[request.method for request in requests], *["GET"] * len(refusal))
    assert rest == b""
    assert [answer.status for answer in answers] == [200] * len(requests) + refusal
    assert all(not answer.closes for answer in answers[:-1])
    keeps = not isinstance(expected.ending, int) and not (requests and not requests[-1].keep_alive)
    assert one.kept is keeps
    assert one.wire.closed
    if answers:
        assert answers[-1].closes is (bool(refusal) or not requests[-1].keep_alive)
