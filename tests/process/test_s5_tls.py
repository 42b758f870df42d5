"""S5: TLS. A client that stalls or resets in the handshake harms nobody."""

import socket
import ssl
import struct

import pytest

from apid import scoreboard
from apid.conf.settings import Http, Tls
from tests.support.apps import framing
from tests.support.client import Connection, request_bytes
from tests.support.engine import serving, wait_for


@pytest.fixture(scope="module")
def engine(certificate):
    cert, key = certificate
    with serving(framing.app, Http(header_timeout=1), tls=Tls(str(cert), str(key))) as engines:
        yield engines


@pytest.fixture
def tls(certificate):
    return ssl.create_default_context(cafile=certificate[0])


def test_requests_over_tls(engine, tls):
    with Connection(engine.address, tls=tls) as one:
        environ = one.request(path="/environ").json()
        assert environ["wsgi.url_scheme"] == "https"
        assert environ["HTTPS"] == "on"
        assert environ["SSL_PROTOCOL"].startswith("TLSv1.")
        assert one.request("POST", "/echo", body=b"x" * 300000).body == b"x" * 300000
        assert len(one.request(path="/big?100").body) == 100 * 65536
        one.send(request_bytes(path="/file") + request_bytes())
        assert one.answer().status == 200
        assert one.answer().body == b"body"
        assert one.request(path="/close").closes
        assert one.rest() == b""


@pytest.mark.parametrize(
    ("octets", "status"), [(b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nHost:", 408)]
)
def test_refusals_go_out_over_tls(engine, tls, octets, status):
    with Connection(engine.address, tls=tls) as one:
        one.send(octets)
        answer = one.answer()
        assert (answer.status, answer.closes) == (status, True)
        assert one.rest() == b""


def test_plain_http_is_told_that_tls_is_spoken_here(engine):
    with Connection(engine.address) as one:
        one.send(request_bytes())
        answer = one.answer()
        assert (answer.status, answer.closes) == (400, True)
        assert "TLS" in answer.json()["badRequest"]["message"]
        assert one.rest() == b""


def test_stalling_resetting_and_garbage_in_the_handshake(engine, tls):
    failures = engine.total(scoreboard.HANDSHAKE_FAILURES)
    stalled = [socket.create_connection(engine.address) for _ in range(20)]
    for one in stalled:
        one.sendall(b"\x16\x03\x01")
    for _ in range(20):
        one = socket.create_connection(engine.address)
        one.sendall(b"\x16\x03\x01\x02\x00")
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
    with socket.create_connection(engine.address) as garbage:
        garbage.sendall(request_bytes())
        garbage.settimeout(5)
        while garbage.recv(1000):
            pass
    with Connection(engine.address, tls=tls) as good:
        assert good.request().body == b"body"
        timeouts = engine.total(scoreboard.TIMEOUTS)
        for one in stalled:
            one.settimeout(5)
            assert one.recv(10) == b""
            one.close()
    assert engine.total(scoreboard.HANDSHAKE_FAILURES) > failures
    wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 0)
    assert engine.total(scoreboard.TIMEOUTS) >= timeouts


def test_websocket_over_tls(engine, tls):
    key = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    with Connection(engine.address, tls=tls) as one:
        one.send(request_bytes(path="/websocket", headers=key))
        assert one.sock.recv(1000).startswith(b"HTTP/1.1 101")
        one.send(bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi")
        assert one.sock.recv(100) == b"\x81\x02hi"
        one.send(bytes([0x88, 0x80, 0, 0, 0, 0]))
        one.rest()


def test_a_client_certificate_is_asked_for_and_told(certificate):
    cert, key = certificate
    settings = Tls(str(cert), str(key), ca_file=str(cert))
    with serving(framing.app, tls=settings) as engine:
        made = ssl.create_default_context(cafile=cert)
        made.load_cert_chain(cert, key)
        with Connection(engine.address, tls=made) as one:
            environ = one.request(path="/environ").json()
            assert environ["SSL_CLIENT_VERIFY"] == "SUCCESS"
            assert environ["SSL_CLIENT_S_DN"] == "commonName=localhost"
        without = ssl.create_default_context(cafile=cert)
        with pytest.raises((ssl.SSLError, ConnectionError)), Connection(engine.address, tls=without) as one:
            one.request()
