"""S1, S7: the corpus to a daemon of each engine, whole and octet by octet: none is read as two, none hangs, none gives 500."""

from __future__ import annotations

import contextlib
import re
import socket

import pytest

from apid.conf.settings import POOL_SIZES
from tests.support import corpus
from tests.support.apps import pipeline
from tests.support.client import AnswerError, Connection, NoAnswer

CASES = corpus.load()


def in_one_piece(octets):
    return [octets] if octets else []


def octet_by_octet(octets):
    return [octets[at : at + 1] for at in range(len(octets))]


def judge(case, address, cut):
    """Send the stream and compare every answer; an AssertionError says what was otherwise."""
    with Connection(address, timeout=5) as one:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in cut(case.octets):
                one.send(piece)  # a refusal may come, and the end with it, before all is sent
        last = None
        for request in case.requests:
            method = request.split(" ")[0]
            last = one.answer(method)
            assert last.status == 200, (request, last)
        if last is not None:
            assert last.closes is case.close, "Connection"
            if not request.startswith("HEAD "):
                told = last.json()
                assert told["method"] == method
                assert case.body is None or told["content"].encode("latin-1") == case.body
                assert {key: told["environ"].get(key) for key in case.environ} == case.environ
                assert not set(case.absent) & set(told["environ"])
        if case.status is not None:
            judge_refusal(one.answer(), {case.status})
        with contextlib.suppress(OSError):
            one.sock.shutdown(socket.SHUT_WR)
        if case.incomplete:
            with contextlib.suppress(NoAnswer):
                judge_refusal(one.answer(), {400, 408})
        rest = one.rest()
        assert rest == b"", "more answers than requests"


def judge_refusal(answer, statuses):
    assert answer.status in statuses, answer
    assert answer.closes
    assert re.fullmatch(r"req-[0-9a-f-]{36}", answer.header("X-Openstack-Request-Id") or ""), "request id"
    assert answer.header("Server") is None
    (fault,) = answer.json().values()
    assert fault["code"] == answer.status
    assert fault["request_id"] == answer.header("X-Openstack-Request-Id")


@pytest.mark.parametrize("engine", POOL_SIZES)
@pytest.mark.parametrize("cut", [in_one_piece, octet_by_octet], ids=lambda cut: cut.__name__)
def test_every_stream_of_the_corpus(daemon, say, cut, engine):
    one = daemon(paste=pipeline("mirror"), engine=engine, workers=1, access_log="off").start()
    one.allow(r"refused|400|408|413|414|417|431|501|505")
    workers = one.wait_for_workers(1)
    wrong = {}
    cases = [case for case in CASES if cut is in_one_piece or len(case.octets) < 1500]
    for case in cases:
        try:
            judge(case, one.address, cut)
        except (AssertionError, AnswerError, OSError) as error:
            wrong[str(case)] = f"{type(error).__name__}: {error}"[:300]
    assert not wrong
    assert one.worker_pids() == workers
    say(f"{len(cases)} streams")
    assert one.stop() == 0
