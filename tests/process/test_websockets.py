"""A library that takes the connection's socket over gets what it looks for: Flask-Sock on simple-websocket."""

from __future__ import annotations

import contextlib
import signal
import ssl

import pytest
import simple_websocket

from tests.support.client import Connection, get, request_bytes
from tests.support.processes import wait_until

PASTE = "[app:main]\npaste.app_factory = tests.support.apps.websocket:factory\n"
pytestmark = pytest.mark.both_engines

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture
def serve(daemon):
    def serve(ping="", **options):
        return daemon(paste=PASTE + ping, workers=1, **options).start()

    return serve


@contextlib.contextmanager
def channel(one, path="/echo", scheme="ws", **options):
    client = simple_websocket.Client(f"{scheme}://localhost:{one.address[1]}{path}", **options)
    try:
        yield client
    finally:
        with contextlib.suppress(simple_websocket.ConnectionClosed):
            client.close()


def in_flight(one):
    return one.status()["workers"][0]["in_flight"]


def hear(client):
    text = client.receive(timeout=5)
    assert text is not None, "no message within 5 s"
    return text


def test_messages_small_and_large_on_several_at_once(serve):
    one = serve()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(channel(one)) for _ in range(5)]
        for text in ("abc", "x" * 200_000 + "y", ""):
            for client in clients:
                client.send(text)
            assert [hear(client) for client in clients] == [text[::-1]] * 5
        assert get(one.address).text == "hello"
        clients[0].send("bye")
        with pytest.raises(simple_websocket.ConnectionClosed):
            hear(clients[0])
        clients[1].send("still")
        assert hear(clients[1]) == "llits"
    wait_until(lambda: in_flight(one) == 0, "no request in flight")


def test_the_first_message_may_come_with_the_handshake(serve):
    one = serve()
    with Connection(one.address) as client:
        client.send(request_bytes(path="/echo", headers=HANDSHAKE) + bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi")
        received = b""
        while not received.endswith(b"\x81\x02ih"):
            received += client.sock.recv(1000)
        assert received.startswith(b"HTTP/1.1 101")


def test_waiting_has_an_end_and_pings_are_sent(serve):
    one = serve(ping="ping = 0.2\n")
    with channel(one, "/timed") as client:
        assert hear(client) == "None"
    with Connection(one.address) as client:
        client.send(request_bytes(path="/echo", headers=HANDSHAKE))
        received = b""
        while b"\x89\x00" not in received:
            received += client.sock.recv(1000)


def test_over_tls(serve, certificate):
    cert, key = certificate
    one = serve(sections={"ssl": {"cert_file": cert, "key_file": key}})
    trust = ssl.create_default_context(cafile=str(cert))
    with channel(one, scheme="wss", ssl_context=trust) as client:
        for text in ("abc", "x" * 200_000 + "y"):
            client.send(text)
            assert hear(client) == text[::-1]


def test_a_client_that_leaves_and_an_application_that_fails_give_the_slot_back(serve):
    one = serve()
    with Connection(one.address) as client:
        client.send(request_bytes(path="/echo", headers=HANDSHAKE))
        assert client.sock.recv(1000).startswith(b"HTTP/1.1 101")
    with channel(one, "/failing") as client:
        client.send("what failed")
        with pytest.raises(simple_websocket.ConnectionClosed):
            hear(client)
    one.wait_for_log("LookupError: what failed")
    one.allow("ERROR")
    wait_until(lambda: in_flight(one) == 0, "no request in flight")
    assert get(one.address).text == "hello"


def test_a_reload_lets_it_go_on(serve):
    one = serve()
    with channel(one) as client:
        client.send("abc")
        assert hear(client) == "cba"
        one.signal(signal.SIGHUP)
        one.wait_ready(2)
        client.send("def")
        assert hear(client) == "fed"


def test_the_end_of_a_drain_cuts_it(serve):
    one = serve(graceful_shutdown_timeout=1)
    with channel(one) as client:
        client.send("abc")
        assert hear(client) == "cba"
        one.signal(signal.SIGTERM)
        with pytest.raises(simple_websocket.ConnectionClosed):
            hear(client)
    one.allow("WARNING", "ERROR")
    assert one.wait() == 1
