"""A drain of one engine, seen from its clients (the engine's side of R2, R3, R4, R11, R12)."""

import contextlib
import ipaddress
import signal
import socket
import ssl
import time

import pytest

from apid import scoreboard
from apid.conf.settings import Http, Tls
from tests.support.apps import framing, green
from tests.support.client import Connection, NoAnswer, request_bytes
from tests.support.engine import wait_for

pytestmark = pytest.mark.timing

SOON = 6
"""Seconds: two are promised (R12), on a machine that has time; the drain's own deadline is ten."""

WITH_SUCCESSOR, ALONE = signal.SIGTERM, signal.SIGHUP


@pytest.fixture
def engine(serving):
    with serving(framing.app) as engines:
        yield engines


def draining(engine):
    return wait_for(lambda: engine.rows[0].connections[0] == scoreboard.CLOSED)


@pytest.mark.parametrize("how", [WITH_SUCCESSOR, ALONE])
def test_accepted_but_unread_is_served(engine, how):
    with Connection(engine.address) as one:
        wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 1)
        engine.kill(how)
        draining(engine)
        time.sleep(0.2)  # the client of R2 takes its time
        answer = one.request()
        assert (answer.status, answer.closes) == (200, True)
    assert engine.wait() == 0


def test_what_waits_in_the_kernel_is_answered_where_nobody_follows(serving):
    with serving(framing.app, Http(pool_size=1)) as engine:
        busy = engine.connect()
        busy.send(request_bytes(path="/sleep?0.5"))
        wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == 1)
        queued = [engine.connect() for _ in range(20)]
        for one in queued:
            one.send(request_bytes())
        assert engine.total(scoreboard.ACCEPTED) == 1
        engine.kill(ALONE)
        engine.sock.close()  # as the parent does: the last copy is the worker's
        for one in [busy, *queued]:
            answer = one.answer()
            assert (answer.status, answer.closes) == (200, True)
            one.close()
        assert engine.wait() == 0
        with pytest.raises(ConnectionRefusedError):
            engine.connect()


def test_what_waits_in_the_kernel_is_left_to_the_successor(serving):
    with serving(framing.app, Http(pool_size=1)) as engine:
        busy = engine.connect()
        busy.send(request_bytes(path="/sleep?0.3"))
        wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == 1)
        queued = [engine.connect() for _ in range(5)]
        engine.kill(WITH_SUCCESSOR)
        assert busy.answer().closes
        assert engine.wait(timeout=SOON) == 0, "what it accepted last has the grace of the others, not header_timeout"
        accepted = engine.total(scoreboard.ACCEPTED)
        assert accepted <= 2
        engine.fork()
        for one in queued[accepted - 1 :]:
            assert one.request().status == 200


def test_idle_connections_end_soon(engine):
    idle = [engine.connect() for _ in range(20)]
    silent = engine.connect()
    for one in idle:
        one.request()
    wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 21)
    began = time.monotonic()
    engine.kill(WITH_SUCCESSOR)
    assert engine.wait() == 0
    assert time.monotonic() - began < SOON
    for one in [*idle, silent]:
        assert one.rest() == b""
        one.close()


def test_a_busy_client_is_told_before_its_connection_ends(engine):
    with Connection(engine.address) as one:
        one.request()
        engine.kill(WITH_SUCCESSOR)
        answers = []
        try:
            while not (answers and answers[-1].closes):
                answers.append(one.request())
        except (NoAnswer, ConnectionError):
            pytest.fail("the connection ended without Connection: close in the last answer")
    assert engine.wait() == 0


def test_a_request_after_the_half_close_is_not_run(engine):
    with Connection(engine.address) as one:
        one.request()
        engine.kill(WITH_SUCCESSOR)
        assert one.rest() == b""
        requests = engine.total(scoreboard.REQUESTS)
        one.send(request_bytes())
        assert engine.wait() == 0
        assert engine.total(scoreboard.REQUESTS) == requests


def test_a_half_received_head_is_waited_for_and_answered(engine):
    with Connection(engine.address) as one:
        one.send(b"GET / HTTP/1.1\r\n")
        wait_for(lambda: engine.total(scoreboard.BYTES_IN) > 0)
        engine.kill(WITH_SUCCESSOR)
        draining(engine)
        time.sleep(1.2)  # longer than an idle connection is left
        one.send(b"Host: x\r\n\r\n")
        assert one.answer().closes
    assert engine.wait() == 0


def test_a_head_that_begins_in_the_drain_is_waited_for(engine):
    with Connection(engine.address) as one:
        wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 1)
        engine.kill(WITH_SUCCESSOR)
        draining(engine)
        one.send(b"GET / HTTP/1.1\r\n")
        time.sleep(1.2)  # longer than an idle connection is left
        one.send(b"Host: x\r\n\r\n")
        answer = one.answer()
        assert (answer.status, answer.closes) == (200, True)
    assert engine.wait() == 0


@pytest.mark.parametrize("begins", ["before", "after"])
def test_a_half_received_proxy_header_is_waited_for(serving, begins):
    settings = Http(proxy_protocol=True, trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),))
    with (
        serving(framing.app, settings) as engine,
        Connection(engine.address) as one,
        Connection(engine.address) as silent,
    ):
        wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 2)
        if begins == "before":
            one.send(b"PROXY TCP4 192.0.2.1 ")
            time.sleep(0.2)  # lets the worker see it: it counts nothing that it has not taken
        engine.kill(WITH_SUCCESSOR)
        draining(engine)
        if begins == "after":
            one.send(b"PROXY TCP4 192.0.2.1 ")
        assert silent.rest() == b""  # what says nothing is left no longer than before
        time.sleep(0.5)
        one.send(b"192.0.2.2 1 2\r\n" + request_bytes(path="/environ"))
        answer = one.answer()
        assert (answer.json()["REMOTE_ADDR"], answer.closes) == ("192.0.2.1", True)
        assert engine.wait() == 0


@pytest.mark.parametrize("begins", ["before", "after"])
def test_a_tls_handshake_under_way_is_waited_for(serving, certificate, begins):
    cert, key = certificate
    with serving(framing.app, tls=Tls(str(cert), str(key))) as engine:
        with Connection(engine.address) as one, Connection(engine.address) as silent:
            wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 2)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = ssl.create_default_context(cafile=cert).wrap_bio(incoming, outgoing, server_hostname="localhost")
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
            hello = outgoing.read()
            if begins == "before":
                one.send(hello[:20])
                time.sleep(0.2)  # lets the worker see it: OpenSSL's octets are not counted
            engine.kill(WITH_SUCCESSOR)
            draining(engine)
            if begins == "after":
                one.send(hello[:20])
            assert silent.rest() == b""
            time.sleep(0.5)
            one.send(hello[20:])
            request = request_bytes()
            answer = b""
            while not answer.endswith(b"body"):
                received = one.sock.recv(65536)
                assert received, answer
                incoming.write(received)
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                    if request:
                        client.write(request)
                        request = b""
                    while data := client.read():
                        answer += data
                one.send(outgoing.read())
            assert b"\r\nConnection: close\r\n" in answer
        assert engine.wait() == 0


def test_the_deadline_cuts_and_names(serving):
    with serving(framing.app, deadline=0.5) as engine:
        with Connection(engine.address) as one:
            one.send(request_bytes(path="/swallow?30"))
            wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == 1)
            engine.kill(WITH_SUCCESSOR)
            assert one.rest() == b""
        assert engine.wait() == 1
        assert "cut: GET /swallow?30 " in engine.logged()
        assert engine.total(scoreboard.CUT) == 1


@pytest.mark.only(
    "eventlet", "cutting one request may run others, which are answered; threads cut without running anything"
)
def test_what_is_answered_while_others_are_cut_is_not_named(serving):
    with serving(green.until_one_is_cut, deadline=0.5) as engine, contextlib.ExitStack() as stack:
        clients = []
        for path in ("/first", *["/other"] * 20):
            clients.append(stack.enter_context(Connection(engine.address)))
            clients[-1].send(request_bytes(path=path))
            wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == len(clients))
        engine.kill(WITH_SUCCESSOR)
        answered = sum(b" 200 OK\r\n" in one.rest() for one in clients)
        assert engine.wait() == 1
        assert engine.logged().count("cut: GET") == engine.total(scoreboard.CUT) == len(clients) - answered


@pytest.mark.only("eventlet", "eventlet.set_idle is a key of its own in the environ")
def test_a_websocket_that_said_it_is_idle_does_not_hold_the_drain(engine):
    key = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    with Connection(engine.address) as one:
        one.send(request_bytes(path="/websocket", headers=key))
        assert one.sock.recv(1000).startswith(b"HTTP/1.1 101")
        began = time.monotonic()
        engine.kill(WITH_SUCCESSOR)
        assert engine.wait() == 0
        assert time.monotonic() - began < SOON


def test_a_socket_of_the_unix_family(serving, tmp_path):
    with serving(framing.app, unix=str(tmp_path / "s")) as engine:
        many = [engine.connect() for _ in range(5)]
        for one in many:
            assert one.request(path="/environ").json()["REMOTE_ADDR"] == ""
        began = time.monotonic()
        engine.kill(ALONE)
        assert engine.wait() == 0
        assert time.monotonic() - began < SOON


def test_a_stopping_worker_never_shuts_the_shared_socket_down(engine):
    engine.kill(WITH_SUCCESSOR)
    assert engine.wait() == 0
    with socket.create_connection(engine.address):
        pass
