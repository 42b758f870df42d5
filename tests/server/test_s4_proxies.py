"""S4, the engine's side: PROXY headers and forwarded fields count from trusted peers only."""

import ipaddress
import socket

import pytest

from apid import scoreboard
from apid.conf.settings import Http, Tls
from apid.wsgi.middleware import healthcheck
from tests.support.apps import framing
from tests.support.client import Connection, request_bytes
from tests.support.engine import wait_for

HERE = (ipaddress.ip_network("127.0.0.0/8"),)
ELSEWHERE = (ipaddress.ip_network("192.0.2.0/24"),)
V1 = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n"
TOLD = {
    "X-Forwarded-For": "198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil",
    "X-Real-Ip": "198.51.100.8",
}
NAMED = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip")


def heard(one, fields):
    """Ask with forwarding fields: REMOTE_ADDR, REMOTE_PORT, scheme, and which of the fields reach the application."""
    environ = one.request(path="/environ", headers=fields).json()
    kept = [key for key in environ if "FORWARDED" in key or "REAL_IP" in key]
    return environ["REMOTE_ADDR"], environ["REMOTE_PORT"], environ["wsgi.url_scheme"], kept


def test_proxy_protocol_of_a_trusted_peer(serving):
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
def test_a_proxy_header_that_does_not_come_is_an_end_without_a_reset(serving, part):
    settings = Http(proxy_protocol=True, trusted_proxies=HERE, header_timeout=0.5)
    with serving(framing.app, settings) as engine, Connection(engine.address) as one:
        one.send(part)
        assert one.sock.recv(1) == b""
        assert wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 0)
        assert engine.total(scoreboard.TIMEOUTS) == 1


def test_proxy_protocol_of_a_stranger_is_no_request(serving):
    with serving(framing.app, Http(proxy_protocol=True, trusted_proxies=ELSEWHERE)) as engine:
        with Connection(engine.address) as one:
            assert one.request().status == 200
        with Connection(engine.address) as one:
            one.send(V1 + request_bytes())
            assert one.answer().status == 400


def test_forwarded_fields(serving):
    told = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
    with serving(framing.app, Http(trusted_proxies=HERE)) as engine, Connection(engine.address) as one:
        environ = one.request(path="/environ", headers=told).json()
        assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("198.51.100.7", "https")
    with serving(framing.app, Http(trusted_proxies=ELSEWHERE)) as engine, Connection(engine.address) as one:
        environ = one.request(path="/environ", headers=told).json()
        assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("127.0.0.1", "http")
        assert "HTTP_X_FORWARDED_FOR" not in environ


def test_a_wildcard_listener_tells_the_address_of_the_connection(serving):
    with serving(framing.app, host="0.0.0.0") as engine, Connection(engine.address) as one:
        assert one.request(path="/environ").json()["SERVER_NAME"] == "127.0.0.1"


UNKNOWN = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN 198.51.100.1 203.0.113.1 1 2\r\n",
    V2 + b"\x21\x00\x00\x00",
    V2 + b"\x21\x12\x00\x0c" + bytes(12),
    V2 + b"\x21\x22\x00\x24" + bytes(36),
    V2 + b"\x21\x31\x00\xd8" + bytes(216),
    V2 + b"\x21\x32\x00\xd8" + bytes(216),
]
OWN = [V2 + b"\x20\x00\x00\x00", V2 + b"\x20\x11\x00\x0c" + bytes(12), V2 + b"\x20\x77\x00\x01x"]


@pytest.mark.parametrize(
    ("headers", "fields"), [(NAMED, TOLD), (("forwarded",), {"Forwarded": "for=198.51.100.7;proto=https"})]
)
def test_a_header_without_an_address_makes_nobody_the_proxy_or_who_he_says_he_is(serving, headers, fields):
    settings = Http(proxy_protocol=True, trusted_proxies=HERE, trusted_proxy_headers=headers)
    with serving(framing.app, settings) as engine:
        for header in UNKNOWN:
            with Connection(engine.address) as one:
                one.send(header)
                assert [heard(one, fields), heard(one, fields)] == [("unknown", "0", "http", [])] * 2, header
        for header in OWN:
            with Connection(engine.address) as one:
                port = str(one.sock.getsockname()[1])
                one.send(header)
                assert [heard(one, fields), heard(one, fields)] == [("127.0.0.1", port, "http", [])] * 2, header


def test_a_health_check_that_ignores_what_is_proxied_sees_the_proxy_header(serving):
    check = healthcheck.app({}, ignore_proxied_requests="true")
    with serving(check, Http(proxy_protocol=True, trusted_proxies=HERE)) as engine:
        for headers, status in ((UNKNOWN, 404), ([V1], 404), (OWN, 200)):
            for header in headers:
                with Connection(engine.address) as one:
                    one.send(header)
                    assert [one.request().status, one.request(headers=TOLD).status] == [status] * 2, header


def test_a_source_that_is_a_proxy_is_believed_and_a_mapped_one_is_ipv4(serving):
    networks = (*HERE, ipaddress.ip_network("203.0.113.0/24"))
    with serving(framing.app, Http(proxy_protocol=True, trusted_proxies=networks)) as engine:
        for source in ("TCP4 203.0.113.9 203.0.113.1", "TCP6 ::ffff:203.0.113.9 ::1"):
            with Connection(engine.address) as one:
                one.send(f"PROXY {source} 1 2\r\n".encode())
                assert heard(one, TOLD)[:3] == ("198.51.100.7", "0", "https")
                assert one.request(path="/environ").json()["REMOTE_ADDR"] == "203.0.113.9"


def test_a_unix_socket_expects_no_proxy_header(serving, tmp_path):
    settings = Http(proxy_protocol=True, trusted_proxies=HERE)
    with serving(framing.app, settings, unix=str(tmp_path / "api.sock")) as engine:
        with Connection(engine.address) as one:
            assert heard(one, {}) == ("", "", "http", [])
            assert heard(one, TOLD)[:3] == ("198.51.100.7", "0", "https")
        with Connection(engine.address) as one:
            one.send(V1 + request_bytes())
            assert one.answer().status == 400


@pytest.mark.parametrize(
    "part", [b"P", b"PROXY TCP4 192.0.2.1", b"PROXY UNKNOWN\r", V2[:5], V2 + b"\x21\x11\x00\x0c" + bytes(11)]
)
@pytest.mark.parametrize("secure", [False, True])
def test_half_a_proxy_header_is_not_waited_for_after_its_end(serving, part, secure, certificate):
    """Without header_timeout nothing else would end the connection."""
    settings = Http(proxy_protocol=True, trusted_proxies=HERE, header_timeout=0, keepalive_timeout=0)
    with serving(framing.app, settings, tls=Tls(*map(str, certificate)) if secure else None) as engine:
        with Connection(engine.address) as at_once, Connection(engine.address) as later:
            for one in (at_once, later):
                one.send(part)
            at_once.sock.shutdown(socket.SHUT_WR)
            assert at_once.sock.recv(1) == b""
            assert wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 1)
            later.sock.shutdown(socket.SHUT_WR)
            assert later.sock.recv(1) == b""
        assert wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 0)


def test_a_dual_stack_listener_tells_of_ipv4_as_such(serving):
    with serving(framing.app, Http(trusted_proxies=HERE), host="::") as engine:
        address = "127.0.0.1", engine.address[1]
        with Connection(address) as one:
            environ = one.request(path="/environ").json()
            assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"]) == ("127.0.0.1", "127.0.0.1")
            assert heard(one, {"X-Forwarded-For": "::ffff:198.51.100.7"})[0] == "198.51.100.7"
