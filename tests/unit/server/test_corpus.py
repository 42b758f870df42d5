"""Every case of tests/corpus, fed whole, octet by octet, and cut at random."""

import random

import pytest

from tests.support import corpus, reading

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


@pytest.mark.parametrize("case", CASES, ids=str)
def test_whole_octet_by_octet_and_cut_at_random(case):
    whole = reading.read([case.octets])
    check(case, whole)
    assert reading.read([bytes([octet]) for octet in case.octets]) == whole
    dice = random.Random(str(case))  # the same cuts in every run
    for _ in range(10):
        cuts = [dice.randrange(len(case.octets) + 1) for _ in range(dice.randrange(1, 8))]
        assert reading.read(reading.pieces(case.octets, cuts)) == whole, cuts
