"""S2: each kind of slow client is cut at its own deadline, and others do not notice; nor do they of a very fast one."""

import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from apid import scoreboard
from apid.conf.settings import Http
from tests.support.apps import framing
from tests.support.client import Connection, request_bytes
from tests.support.engine import wait_for

pytestmark = pytest.mark.timing

SETTINGS = Http(header_timeout=1, client_socket_timeout=1, keepalive_timeout=1.5, pool_size=20)


@pytest.fixture(scope="module")
def engine(serving):
    with serving(framing.app, SETTINGS) as engines:
        yield engines


def trickle(one, data, pace=0.1):
    """Send octet by octet until the peer has had enough; returns the seconds that it took."""
    began = time.monotonic()
    for octet in data:
        try:
            one.send(bytes([octet]))
        except ConnectionError:
            break
        time.sleep(pace)
        if one.ended() or one._unread:
            break
    return time.monotonic() - began


def test_a_slow_head_is_cut_however_steadily_it_comes(engine):
    with Connection(engine.address) as one:
        took = trickle(one, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100)
        answer = one.answer()
        assert (answer.status, answer.closes) == (408, True)
        assert 1 <= took < 6  # the trickle would take a minute


def test_the_head_of_a_later_request_has_its_own_deadline(engine):
    with Connection(engine.address) as one:
        one.request()
        time.sleep(1)  # within keepalive_timeout
        took = trickle(one, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100)
        assert one.answer().status == 408
        assert 1 <= took < 6  # the trickle would take a minute


def test_a_slow_body_is_cut(engine):
    with Connection(engine.address) as one:
        one.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        took = trickle(one, b"x" * 1000)
        answer = one.answer()
        assert (answer.status, answer.closes) == (408, True)
        assert 1 <= took < 6  # the trickle would take a minute


def test_a_body_that_comes_at_a_pace_is_not_cut(engine):
    with Connection(engine.address) as one:
        one.send(b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 80000\r\n\r\n")
        for _ in range(10):
            one.send(b"x" * 8000)
            time.sleep(0.15)  # all in all longer than client_socket_timeout
        assert one.answer().text.startswith("80000 ")


def test_a_client_that_does_not_read_is_cut(engine):
    with Connection(engine.address) as one:
        one.send(request_bytes(path="/endless"))
        closed = wait_for(lambda: _closed(engine), timeout=5)
        assert closed


def test_clients_that_read_at_a_pace_are_not_cut(engine):
    def read(path):
        with Connection(engine.address) as one:
            one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            one.send(request_bytes(path=path, headers={"Connection": "close"}))
            size, began = 0, time.monotonic()
            while data := one.sock.recv(65536):
                size += len(data)
                time.sleep(0.01)
            return size, time.monotonic() - began

    with ThreadPoolExecutor() as threads:
        for size, took in threads.map(read, ["/big?200", "/big-list?200", "/big-file"]):
            assert size > 200 * 65536
            assert took > 1.5  # longer than client_socket_timeout


def test_an_application_that_computes_does_not_use_up_the_clients_time(engine):
    with Connection(engine.address) as one:
        one.send(b"POST /slowly HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\n" + b"x" * 100)
        time.sleep(0.3)
        one.send(b"x" * 100)
        answer = one.answer()  # the rest does not come
        assert answer.status == 408


def _closed(engine):
    with Connection(engine.address) as one:
        return one.request(path="/last").json()["closed"]


def test_a_request_that_comes_in_time_keeps_its_connection_however_late_the_worker_sees_it(engine):
    with Connection(engine.address) as idle, Connection(engine.address) as busy:
        idle.request()
        busy.send(request_bytes(path="/block?2"))  # nothing else runs, longer than keepalive_timeout
        time.sleep(0.5)
        idle.send(request_bytes())
        answer = idle.answer()
        assert (answer.status, answer.closes) == (200, False)
        assert not idle.ended()
        assert idle.request().status == 200


def test_a_first_head_that_comes_by_halves_has_its_deadline_however_late_the_worker_sees_it(engine):
    with Connection(engine.address) as busy:
        busy.request()
        accepted = engine.total(scoreboard.ACCEPTED)
        with Connection(engine.address) as slow:
            wait_for(lambda: engine.total(scoreboard.ACCEPTED) == accepted + 1)
            busy.send(request_bytes(path="/block?2"))  # nothing else runs, longer than header_timeout
            wait_for(engine.rows[0].flights)
            slow.send(b"GET / HTTP/1.1\r\nHost:")
            assert slow.answer().status == 408
            assert slow.rest() == b""


GREEDY = """
import socket, sys
one, request = socket.create_connection((sys.argv[1], int(sys.argv[2]))), sys.stdin.buffer.read()
print("begin", flush=True)
one.sendall(request)
while one.recv(1 << 20): pass
"""


@pytest.mark.parametrize(("path", "size"), [("/drops?300000", 0), ("/sips", 50_000_000)], ids=["reads", "sends"])
def test_a_client_as_fast_as_the_application_is_not_served_alone(engine, path, size):
    request = request_bytes("POST", path, headers={"Connection": "close"}, body=b"x" * size)
    command = [sys.executable, "-c", GREEDY, *map(str, engine.address)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as greedy, Connection(engine.address) as other:
        greedy.stdin.write(request)
        greedy.stdin.close()
        assert greedy.stdout.readline() == b"begin\n"
        served = 0
        while greedy.poll() is None:
            served += other.request().status == 200
            time.sleep(0.01)
    wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == 0)
    assert greedy.returncode == 0
    assert served > 12  # a handful, of before and after, where it has to wait for the other's end


def test_silence_is_closed_without_an_answer(engine):
    with Connection(engine.address) as new, Connection(engine.address) as idle:
        idle.request()
        began = time.monotonic()
        assert new.rest() == b""
        assert time.monotonic() - began >= 0.9
        assert idle.rest() == b""
        assert time.monotonic() - began >= 1.4


def test_a_thousand_slow_heads_take_no_slot(engine):
    timeouts = engine.total(scoreboard.TIMEOUTS)
    many = [engine.connect() for _ in range(900)]
    for one in many:
        one.send(b"GET / HTTP/1.1\r\nHost:")
    with Connection(engine.address) as quick:
        assert all(quick.request().status == 200 for _ in range(100))
    wait_for(lambda: engine.total(scoreboard.TIMEOUTS) >= timeouts + 900)
    assert {one.answer().status for one in many} == {408}
    for one in many:
        one.close()
    assert wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 0)


def test_zero_turns_each_deadline_off(serving):
    with serving(framing.app, Http(header_timeout=0, client_socket_timeout=0, keepalive_timeout=0)) as engine:
        silent, idle, half, slow = (engine.connect() for _ in range(4))
        assert idle.request().status == 200
        half.send(b"GET / HTTP/1.1\r\n")
        slow.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        time.sleep(1)  # several ticks
        half.send(b"Host: x\r\n\r\n")
        slow.send(b"b")
        assert [one.answer().status for one in (half, slow)] == [200, 200]
        assert [one.request().status for one in (silent, idle)] == [200, 200]
