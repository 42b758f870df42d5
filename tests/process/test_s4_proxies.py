"""S4, the engine's side: PROXY headers and forwarded fields count from trusted peers only."""

import ipaddress

import pytest

from apid import scoreboard
from apid.conf.settings import Http
from tests.support.apps import framing
from tests.support.client import Connection, request_bytes
from tests.support.engine import serving, wait_for

HERE = (ipaddress.ip_network("127.0.0.0/8"),)
ELSEWHERE = (ipaddress.ip_network("192.0.2.0/24"),)
V1 = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\r\n"


def test_proxy_protocol_of_a_trusted_peer():
    with serving(framing.app, Http(proxy_protocol=True, trusted_proxies=HERE)) as engine:
        with Connection(engine.address) as one:
            for octet in V1:
                one.send(bytes([octet]))
            environ = one.request(path="/environ").json()
            assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("198.51.100.7", "4711")
            assert one.request(path="/environ").json()["REMOTE_ADDR"] == "198.51.100.7"
        with Connection(engine.address) as one:
            one.send(V1 + request_bytes(path="/environ"))
            assert one.answer().json()["REMOTE_ADDR"] == "198.51.100.7"
        with Connection(engine.address) as one:
            answer = one.request()
            assert (answer.status, answer.closes) == (400, True)


@pytest.mark.parametrize("part", [b"", b"PROXY TCP4 192.0.2.1"])
def test_a_proxy_header_that_does_not_come_is_an_end_without_a_reset(part):
    settings = Http(proxy_protocol=True, trusted_proxies=HERE, header_timeout=0.5)
    with serving(framing.app, settings) as engine, Connection(engine.address) as one:
        one.send(part)
        assert one.sock.recv(1) == b""
        assert wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 0)
        assert engine.total(scoreboard.TIMEOUTS) == 1


def test_proxy_protocol_of_a_stranger_is_no_request():
    with serving(framing.app, Http(proxy_protocol=True, trusted_proxies=ELSEWHERE)) as engine:
        with Connection(engine.address) as one:
            assert one.request().status == 200
        with Connection(engine.address) as one:
            one.send(V1 + request_bytes())
            assert one.answer().status == 400


def test_forwarded_fields():
    told = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
    with serving(framing.app, Http(trusted_proxies=HERE)) as engine, Connection(engine.address) as one:
        environ = one.request(path="/environ", headers=told).json()
        assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("198.51.100.7", "https")
    with serving(framing.app, Http(trusted_proxies=ELSEWHERE)) as engine, Connection(engine.address) as one:
        environ = one.request(path="/environ", headers=told).json()
        assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("127.0.0.1", "http")
        assert "HTTP_X_FORWARDED_FOR" not in environ


def test_a_wildcard_listener_tells_the_address_of_the_connection():
    with serving(framing.app, host="0.0.0.0") as engine, Connection(engine.address) as one:
        assert one.request(path="/environ").json()["SERVER_NAME"] == "127.0.0.1"
