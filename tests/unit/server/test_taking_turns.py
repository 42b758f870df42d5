"""An application that never waits lets others go first, and one whose client has left ends (PEP 3333)."""

import json
import select
import socket
import time

import pytest

from apid.conf.settings import Http
from tests.support.client import Connection, request_bytes
from tests.support.engine import serving, wait_for

ENDS = []


class Body:
    """An iterable that notes its end."""

    def __init__(self, pieces):
        self.pieces = pieces

    def __iter__(self):
        return self.pieces

    def close(self):
        ENDS.append("closed")


def forever(piece, first=()):
    yield from first
    while True:
        yield piece


def writes(start, status, piece):
    write = start(status, [])
    try:
        while True:
            write(piece)
    finally:
        ENDS.append("closed")


def reads(env, call):
    while not env["apid.client_gone"]():
        call(env["wsgi.input"])
    ENDS.append("closed")
    return []


ENDLESS = {
    "empty pieces": lambda env, start: start("200 OK", []) and Body(forever(b"")),
    "empty pieces after data": lambda env, start: start("200 OK", []) and Body(forever(b"", [b"data"])),
    "empty pieces after all data": lambda env, start: (
        start("200 OK", [("Content-Length", "4")]) and Body(forever(b"", [b"data"]))
    ),
    "empty pieces, no content": lambda env, start: start("204 No Content", []) and Body(forever(b"")),
    "empty pieces, not modified": lambda env, start: start("304 Not Modified", []) and Body(forever(b"")),
    "held pieces": lambda env, start: (
        start("200 OK", [])
        and env.update({"eventlet.minimum_write_chunk_size": 1 << 40}) is None
        and Body(forever(b"x"))
    ),
    "empty writes": lambda env, start: writes(start, "200 OK", b""),
    "writes, no content": lambda env, start: writes(start, "204 No Content", b"data"),
    "reads of zero": lambda env, start: reads(env, lambda given: given.read(0)),
    "reads at the end": lambda env, start: reads(env, lambda given: given.read(10)),
    "reads of all at the end": lambda env, start: reads(env, lambda given: given.read()),
    "lines at the end": lambda env, start: reads(env, lambda given: given.readline()),
    "lists of lines at the end": lambda env, start: reads(env, lambda given: given.readlines()),
}
ENDING = {
    "data, no content": lambda env, start: start("204 No Content", []) and Body(forever(b"data")),
    "data, not modified": lambda env, start: start("304 Not Modified", []) and Body(forever(b"data")),
    "data beyond the length": lambda env, start: start("200 OK", [("Content-Length", "2")]) and Body(forever(b"data")),
}


def app(env, start):
    name = env["PATH_INFO"][1:].replace("_", " ")
    if found := {**ENDLESS, **ENDING}.get(name):
        return found(env, start)
    if name == "gone":
        gone = env["apid.client_gone"]
        before = gone()
        import eventlet

        until = time.monotonic() + 5
        while not gone() and time.monotonic() < until:
            eventlet.sleep(0.01)
        ENDS.append([before, gone()])
        start("200 OK", [])
        return [b"", b"for one ", b"that only listens"]
    if name == "short":
        start("200 OK", [])
        return Body(iter([b"a", b"", b"b", b""]))
    start("200 OK", [])
    ended, ENDS[:] = list(ENDS), []
    return [json.dumps(ended).encode()]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    log = tmp_path_factory.mktemp("engine") / "access.log"
    settings = Http(access_log=str(log), access_log_format="%(method)s %(path)s %(status_code)d %(outcome)s")
    with serving(app, settings) as engines:
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
        wait_for(lambda: f"{method} {path} " in (text := engine.access_log.read_text()) and "client_gone" in text)


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


def test_a_native_thread_may_read_to_the_end():
    """Nothing there may switch green threads."""

    def app(env, start):
        from eventlet import tpool

        def read():
            until = time.monotonic() + 0.05
            while time.monotonic() < until:
                env["wsgi.input"].read()
            return b"read"

        start("200 OK", [])
        return [tpool.execute(read)]

    with serving(app) as engine, Connection(engine.address) as one:
        assert one.request().body == b"read"


def duplex(env, start):
    """The answer is sent while another green thread reads the content."""
    import eventlet

    def consume():
        while env["wsgi.input"].read(65536):
            pass

    eventlet.spawn(consume)
    start("200 OK", [])
    return forever(b"x" * 65536)


def test_two_green_threads_of_one_request_take_turns():
    """Each of the two leaves the turn to others now and then; neither may take the other's place in the queue."""
    chunk = b"10000\r\n" + b"y" * 65536 + b"\r\n"
    enough = 200 << 20
    with serving(duplex) as engine, Connection(engine.address) as one:
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
