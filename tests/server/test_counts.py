"""What counters and the access log say agrees with what clients got, for every answer that the server makes itself."""

import re
import socket

import pytest

from apid import scoreboard
from apid.conf.settings import Http
from tests.support.apps import framing
from tests.support.client import Connection, request_bytes
from tests.support.engine import wait_for

CLOSE = {"Connection": "close"}
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
EXPECTS = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab"
EXCHANGES = [
    # octets, whether the client then ends its side, the statuses that come, and those among them that the server made
    (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", False, [400], [400]),
    (b"GET / HTTP/1.1\r\nHo", True, [400], [400]),
    (b"GET / HTTP/1.1\r\nHo", False, [408], [408]),
    (b"GET /" + b"a" * 9000, False, [414], [414]),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20000, False, [431], [431]),
    (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", False, [501], [501]),
    (b"GET / HTTP/2.0\r\n\r\n", False, [505], [505]),
    (request_bytes(headers={"Expect": "a miracle"}), False, [417], [417]),
    (request_bytes(headers={"Content-Length": "9" * 19}), False, [413], [413]),
    (CHUNKED + b"\r\nno\r\n", False, [400], [400]),
    (request_bytes("POST", "/echo", headers={"Content-Length": "9"}) + b"abc", False, [408], [408]),
    (request_bytes("POST", "/echo", headers={"Content-Length": "9"}) + b"abc", True, [400], [400]),
    (CHUNKED + b"\r\n3\r\nabc", True, [400], [400]),
    (request_bytes("POST", "/catches?500", headers={"Content-Length": "9"}) + b"abc", False, [408], [408]),
    (request_bytes("POST", "/catches?404", headers={"Content-Length": "9"}) + b"abc", False, [404], []),
    (request_bytes(path="/crlf"), False, [500], [500]),
    (request_bytes(path="/bytes-value"), False, [500], [500]),
    (request_bytes("HEAD", path="/raise"), False, [500], [500]),
    (request_bytes(path="/silent"), False, [500], [500]),
    (request_bytes(path="/sleep?30"), False, [503], [503]),
    (EXPECTS, False, [100, 200], []),
    (CHUNKED + b"Expect: 100-continue\r\n\r\nno\r\n", False, [100, 400], [400]),
    (request_bytes(path="/nowhere", headers=CLOSE), False, [404], []),
    (request_bytes() + request_bytes(path="/raise"), False, [200, 500], [500]),
    (request_bytes(path="/fails-late"), False, [200], []),
    (request_bytes(path="/short"), False, [200], []),
]


@pytest.fixture(scope="module")
def engine(serving, tmp_path_factory):
    log = tmp_path_factory.mktemp("engine") / "access.log"
    settings = Http(
        access_log=str(log),
        access_log_format="%(status_code)d",
        header_timeout=0.4,
        client_socket_timeout=0.4,
        request_timeout=1.5,
    )
    with serving(framing.app, settings) as engines:
        engines.access_log = log
        yield engines


def counted(engine):
    classes = [engine.total(scoreboard.STATUS_1XX + place) for place in range(5)]
    refusals = {status: count for status, cell in scoreboard.REFUSALS.items() if (count := engine.total(cell))}
    return classes, refusals, engine.total(scoreboard.REFUSED)


@pytest.mark.parametrize(("octets", "ends", "statuses", "made"), EXCHANGES)
def test_an_answer_is_counted_as_what_it_is(engine, octets, ends, statuses, made):
    classes, refusals, refused = counted(engine)
    lines = engine.access_log.read_text().splitlines()
    for status in statuses:
        classes[status // 100 - 1] += 1
    for status in made:
        refusals[status] = refusals.get(status, 0) + 1
    with Connection(engine.address) as one:
        one.send(octets)
        if ends:
            one.sock.shutdown(socket.SHUT_WR)
        said = one.rest()
    assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)] == statuses
    expected = classes, refusals, refused + len(made)
    wait_for(lambda: counted(engine) == expected, lambda: f"{counted(engine)}, not {expected}")
    final = [str(status) for status in statuses if status >= 200]
    wait_for(lambda: engine.flushed(engine.access_log).splitlines() == lines + final, engine.access_log.read_text)


def test_a_client_that_gets_nothing_is_counted_as_nothing(engine):
    before = counted(engine)
    lines = engine.access_log.read_text().splitlines()
    running = len(engine.rows[0].flights())  # under threads, what request_timeout could not end
    with Connection(engine.address) as one:
        one.send(request_bytes("POST", "/echo", headers={"Content-Length": "9"}) + b"abc")
        wait_for(lambda: len(engine.rows[0].flights()) == running + 1)
        one.reset()
    wait_for(lambda: engine.flushed(engine.access_log).splitlines() == [*lines, "0"], engine.access_log.read_text)
    assert counted(engine) == before


def test_an_answer_that_has_begun_is_broken_off_by_request_timeout(serving):
    with serving(framing.app, Http(request_timeout=0.5)) as engine, Connection(engine.address) as one:
        one.send(request_bytes(path="/begins?30"))
        said = one.rest()
        assert said.count(b"HTTP/1.1 ") == 1
        assert said.endswith(b"begun\r\n")
        assert re.search(r"ended,? by request_timeout after \d\.\d s; the answer had begun", engine.logged())
        wait_for(lambda: counted(engine) == ([0, 1, 0, 0, 0], {}, 0))  # a request is counted after its end
        assert engine.total(scoreboard.TIMEOUTS) == 1
