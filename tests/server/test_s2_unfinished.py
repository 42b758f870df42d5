"""S2: connections that hold memory without having asked for anything are limited, and an honest client is served all the same."""

import ipaddress
import socket
import ssl

import pytest

from apid import scoreboard
from apid.conf.settings import Http, Tls
from tests.support.apps import framing
from tests.support.client import Connection, request_bytes
from tests.support.conditions import MOST_UNFINISHED as MOST
from tests.support.conditions import few_unfinished
from tests.support.engine import wait_for

LONG = b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 9000


PATIENT = Http(header_timeout=60)
"""What is unfinished here may stay so for longer than the default on a slow machine."""


@pytest.fixture(scope="module")
def hello():
    """What a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_the_oldest_handshakes_make_room(serving, certificate, hello):
    cert, key = certificate
    context = ssl.create_default_context(cafile=cert)
    with serving(framing.app, PATIENT, tls=Tls(str(cert), str(key)), prepare=few_unfinished) as engine:
        kept = engine.connect(tls=context)
        assert kept.request().body == b"body"
        silent = [engine.connect() for _ in range(2 * MOST)]
        half = []
        for _ in range(2 * MOST):
            half.append(engine.connect())
            half[-1].send(hello)
            assert half[-1].sock.recv(1) == b"\x16"  # the server's part has been made
        with Connection(engine.address, tls=context) as honest:
            assert honest.request().body == b"body"
        assert kept.request().body == b"body"
        for one in half[: MOST + 1]:
            one.rest()
        assert not any(one.sock.recv(1) == b"" for one in half[MOST + 1 :])
        assert not any(one.ended() for one in silent)
        assert engine.total(scoreboard.HANDSHAKE_FAILURES) == MOST + 1
        wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 1 + 2 * MOST + MOST - 1)
        assert engine.logged().count("the oldest are closed") == 1


def test_a_probe_that_says_nothing_takes_no_place_of_a_handshake(serving, certificate, hello):
    cert, key = certificate
    with serving(framing.app, PATIENT, tls=Tls(str(cert), str(key)), prepare=few_unfinished) as engine:
        half = []
        for _ in range(MOST):
            half.append(engine.connect())
            half[-1].send(hello)
            assert half[-1].sock.recv(1) == b"\x16"
        for _ in range(3):
            with Connection(engine.address) as probe:
                probe.sock.shutdown(socket.SHUT_WR)
                probe.rest()
        wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == MOST)
        assert "the oldest are closed" not in engine.logged()


def test_the_oldest_large_heads_make_room_and_small_ones_need_none(serving):
    with serving(framing.app, PATIENT, prepare=few_unfinished) as engine:
        small = [engine.connect() for _ in range(3 * MOST)]
        for one in small:
            one.send(b"GET / HTTP/1.1\r\n")
        wait_for(lambda: engine.total(scoreboard.BYTES_IN) == len(small) * len(b"GET / HTTP/1.1\r\n"))
        large = [engine.connect() for _ in range(2 * MOST)]
        for one in large:
            seen = engine.total(scoreboard.BYTES_IN)
            one.send(LONG)
            wait_for(lambda seen=seen: engine.total(scoreboard.BYTES_IN) == seen + len(LONG))
        with Connection(engine.address) as honest:
            assert honest.request(headers={"X-A": "a" * 9000}).body == b"body"
        for one in large[:MOST]:
            answer = one.answer()
            assert (answer.status, answer.closes) == (503, True)
        for one in large[MOST:]:
            one.send(b"\r\n\r\n")
            assert one.answer().body == b"body"
            one.send(LONG)
        for one in small:
            one.send(b"Host: x\r\n\r\n")
            assert one.answer().body == b"body"
        assert engine.total(scoreboard.REFUSED) == MOST
        assert engine.logged().count("the oldest are closed") == 1


def test_one_that_has_asked_meanwhile_is_not_closed(serving):
    with serving(framing.app, PATIENT, prepare=few_unfinished) as engine:
        first = engine.connect()
        first.send(LONG)
        wait_for(lambda: engine.total(scoreboard.BYTES_IN) >= len(LONG))
        first.send(b"\r\n\r\n")
        assert first.answer().body == b"body"
        for _ in range(MOST):
            engine.connect().send(LONG)
        wait_for(lambda: engine.total(scoreboard.BYTES_IN) >= len(LONG) * (MOST + 1))
        assert first.request().body == b"body"
        assert engine.total(scoreboard.REFUSED) == 0


def test_half_proxy_headers_cost_no_more_than_silence(serving, certificate):
    """They stay in the kernel until they are whole, and the handshake behind them is not begun."""
    cert, key = certificate
    settings = Http(header_timeout=60, proxy_protocol=True, trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),))
    context = ssl.create_default_context(cafile=cert)
    with serving(framing.app, settings, tls=Tls(str(cert), str(key)), prepare=few_unfinished) as engine:
        half = [engine.connect() for _ in range(3 * MOST)]
        for one in half:
            one.send(b"PROXY TCP4 192.0.2.1 ")
        first = half[0]
        first.send(b"192.0.2.2 1 2\r\n")
        first.sock = context.wrap_socket(first.sock, server_hostname="localhost")
        first.send(request_bytes(path="/environ"))
        assert first.answer().json()["REMOTE_ADDR"] == "192.0.2.1"
        # the first may be served before the last is accepted
        wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 3 * MOST)
