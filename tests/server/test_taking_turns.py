"""An application that never waits lets others go first, and one whose client has left ends (PEP 3333)."""

import select
import socket
import time

import pytest

from apid.conf.settings import Http
from tests.support.apps import taking_turns
from tests.support.apps.taking_turns import ENDING, ENDLESS, PIECE, PIECES
from tests.support.client import Connection, request_bytes
from tests.support.engine import wait_for


@pytest.fixture(scope="module")
def engine(serving, tmp_path_factory):
    log = tmp_path_factory.mktemp("engine") / "access.log"
    settings = Http(access_log=str(log), access_log_format="%(method)s %(path)s %(status_code)d %(outcome)s")
    with serving(taking_turns.app, settings) as engines:
        engines.access_log = log
        yield engines


def ended(engine):
    with Connection(engine.address) as other:
        return other.request().json()


@pytest.mark.parametrize(
    ("name", "method", "leave"),
    [(name, method, Connection.reset) for name in ENDLESS for method in ("GET", "HEAD")]
    + [(name, "GET", Connection.close) for name in ("empty pieces", "empty pieces after data", "reads of zero")],
)
def test_an_endless_answer_starves_nobody_and_ends_with_its_client(engine, name, method, leave):
    if method == "HEAD" and "after" in name:
        pytest.skip("the first octet ends the answer to a HEAD")
    path = "/" + name.replace(" ", "_")
    assert ended(engine) == []
    with Connection(engine.address) as one:
        one.send(request_bytes(method, path))
        for _ in range(5):
            assert ended(engine) == []
        leave(one)
        assert wait_for(lambda: ended(engine)) == ["closed"]
    if "reads" not in name and "lines" not in name:
        wait_for(lambda: f"{method} {path} " in (text := engine.flushed(engine.access_log)) and "client_gone" in text)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ENDING)
def test_an_endless_answer_without_content_to_send_ends_by_itself(engine, name, method):
    with Connection(engine.address) as one:
        one.send(request_bytes(method, "/" + name.replace(" ", "_")))
        answer = one.answer(method)
        assert answer.body == (b"da" if "beyond" in name and method == "GET" else b"")
    assert wait_for(lambda: ended(engine)) == ["closed"]
    assert engine.logged().count("more than its Content-Length") <= 1


def test_a_client_that_only_ends_its_side_is_seen_and_answered(engine):
    with Connection(engine.address) as one:
        one.send(request_bytes(path="/gone"))
        ended(engine)
        one.sock.shutdown(socket.SHUT_WR)
        assert one.answer().body == b"for one that only listens"
    assert ended(engine) == [[False, True]]
    with Connection(engine.address) as one:
        one.send(request_bytes(path="/short"))
        one.sock.shutdown(socket.SHUT_WR)
        assert one.answer().body == b"ab"
    assert wait_for(lambda: ended(engine)) == ["closed"]


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", PIECE * PIECES)])
def test_a_client_that_keeps_up_does_not_have_the_worker_alone(serving, method, body):
    with serving(taking_turns.transfer) as engine, Connection(engine.address) as one:
        answer = one.request(method, body=body)
        assert int(answer.body[-10:].split()[-1]) >= PIECES // 32


@pytest.mark.only("eventlet", "it has native threads beside its own; nothing there may switch green threads")
def test_a_native_thread_may_read_to_the_end(serving):
    with serving(taking_turns.in_a_native_thread) as engine, Connection(engine.address) as one:
        assert one.request().body == b"read"


def test_two_threads_of_one_request_take_turns(serving):
    """Each of the two leaves the turn to others now and then; neither may take the other's place in the queue."""
    chunk = b"10000\r\n" + b"y" * 65536 + b"\r\n"
    enough = 200 << 20
    with serving(taking_turns.duplex) as engine, Connection(engine.address) as one:
        one.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = received = 0
        unsent = memoryview(chunk)
        last = time.monotonic()
        while received < enough:
            readable, writable, _ = select.select([one.sock], [one.sock], [], 5)
            if readable:
                received += len(one.sock.recv(1 << 20))
                last = time.monotonic()
            assert time.monotonic() < last + 5, f"the answer stopped after {received} octets; {sent} were sent"
            if writable:
                count = one.sock.send(unsent, socket.MSG_DONTWAIT)
                sent += count
                unsent = unsent[count:] or memoryview(chunk)
        one.reset()
