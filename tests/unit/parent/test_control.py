"""The control protocol among clients that do not keep to it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import resource
import selectors
import socket
import stat
import time

import pytest

from apid.errors import BindError
from apid.parent.control import A_TURN, IDLE, LONGEST, MOST, MOST_PENDING, Control
from apid.posix import processes
from tests.support.processes import wait_until


@pytest.fixture
def control(tmp_path):
    one = Control(str(tmp_path / "ctl"))
    yield one
    one.end(unlink=True)


@pytest.fixture
def connect(control):
    socks = []

    def _connect():
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(5)
        sock.connect(control.path)
        socks.append(sock)
        return sock, control.accept(time.monotonic())

    yield _connect
    for sock in socks:
        sock.close()


def answer(sock):
    return json.loads(sock.makefile("rb").readline())


def taken(control, client):
    """All requests that a client has sent, as many turns as they take."""
    control.read(client)
    requests = []
    while client.asks and client.open:
        requests += control.requests()
    return requests


def test_the_socket_is_the_owners_alone_from_the_first_moment(control):
    assert stat.S_IMODE(pathlib.Path(control.path).stat().st_mode) == 0o600


def test_requests_are_lines_however_they_are_cut(control, connect):
    sock, client = connect()
    sock.sendall(b'{"v": 1, "comm')
    assert taken(control, client) == []
    sock.sendall(b'and": "scale", "number": 4}\n{"v": 1, "command": "status"}\n\n{"v"')
    requests = taken(control, client)
    assert [(one.command, one.number, one.who) for one in requests] == [
        ("scale", 4, client.number),
        ("status", 0, client.number),
    ]
    assert client.pending == 2
    control.reply(client.number, True, "done", {"x": 1})
    assert answer(sock) == {"v": 1, "ok": True, "text": "done", "data": {"x": 1}}
    assert client.pending == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"reload", "not understood"),
        (b"[1, 2]", "not understood"),
        (b"null", "not understood"),
        (b'"text"', "not understood"),
        (b'{"command": "reload"}', "not understood"),
        (b'{"v": 1}', "not understood"),
        (b'{"v": 2, "command": "reload"}', "speaks version 1"),
        (b'{"v": "1", "command": "reload"}', "speaks version 1"),
        (b'{"v": 1, "command": ["reload"]}', "command is a text"),
        (b'{"v": 1, "command": "scale", "number": "4"}', "number a whole number"),
        (b'{"v": 1, "command": "scale", "number": true}', "number a whole number"),
        (b"\xff\xfe", "not understood"),
        (b"[" * 30000, "not understood"),
    ],
)
def test_a_bad_line_is_answered_and_the_connection_goes_on(control, connect, line, reason):
    sock, client = connect()
    sock.sendall(line + b'\n{"v": 1, "command": "status"}\n')
    requests = []
    wait_until(lambda: requests.extend(taken(control, client)) or requests, "the good line after the bad one", 5)
    assert [one.command for one in requests] == ["status"]
    said = answer(sock)
    assert said["ok"] is False
    assert reason in said["text"]


def test_a_line_without_an_end_closes_the_connection(control, connect):
    sock, client = connect()
    sock.sendall(b"x" * (LONGEST - 10))
    while control.clients() and len(client.received) < LONGEST - 10:
        assert taken(control, client) == []
    assert control.clients()
    sock.sendall(b"x" * 20)
    wait_until(lambda: taken(control, client) == [] and not control.clients(), "it is closed", 5)
    assert sock.recv(10) == b""


def test_a_client_that_has_said_its_last_word_still_gets_its_verdict(control, connect):
    sock, client = connect()
    sock.sendall(b'{"v": 1, "command": "reload"}\n')
    sock.shutdown(socket.SHUT_WR)
    assert len(taken(control, client)) == 1
    assert taken(control, client) == []
    assert client.closing
    assert not client.done
    assert control.interest(client) == 0, "there is nothing to poll: a poll for reading would spin"
    control.reply(client.number, True, "done")
    assert client.done
    assert answer(sock)["ok"]


def test_a_bad_line_costs_no_other_verdict(control, connect):
    sock, client = connect()
    sock.sendall(b'{"v": 1, "command": "reload"}\nnonsense\n')
    sock.shutdown(socket.SHUT_WR)
    assert len(taken(control, client)) == 1
    taken(control, client)
    assert not client.done, "the verdict on the reload is still to come"


def test_a_client_that_is_gone_is_no_error(control, connect):
    sock, client = connect()
    sock.sendall(b'{"v": 1, "command": "reload"}\n')
    taken(control, client)
    sock.close()
    control.reply(client.number, True, "x" * 10)
    control.reply(client.number, True, "x" * 10)
    control.reply(999, True, "nobody has this number")
    assert not control.clients() or client.done or taken(control, client) == []


def test_a_client_that_does_not_read_blocks_nobody(control, connect):
    sock, client = connect()
    big = {"text": "x" * 1_000_000}
    control.reply(client.number, True, "status", big)
    assert client.unsent
    assert control.interest(client) & selectors.EVENT_WRITE
    with sock.makefile("rb") as file:
        received = b""
        sock.setblocking(False)
        while client.unsent:
            control.flush(client)
            received += sock.recv(1 << 20)
        sock.setblocking(True)
        received += file.readline() if not received.endswith(b"\n") else b""
    assert json.loads(received)["data"] == big


def ask(connect, control):
    """A client that waits for a verdict."""
    sock, client = connect()
    sock.sendall(b'{"v": 1, "command": "reload"}\n')
    assert len(taken(control, client)) == 1
    return sock, client


def test_a_further_client_takes_the_place_of_the_one_that_is_idle_for_longest(control, connect):
    asker, _ = ask(connect, control)
    idle = [connect() for _ in range(MOST - 1)]
    (first, _), (second, _) = idle[:2]
    sock, client = connect()
    assert client is not None
    assert len(control.clients()) == MOST
    assert first.recv(1) == b"", "it was idle for longest, and owed nothing"
    sock.sendall(b'{"v": 1, "command": "status"}\n')
    assert [one.who for one in taken(control, client)] == [client.number]
    for waiting in (asker, second):
        waiting.setblocking(False)
        with pytest.raises(BlockingIOError):
            waiting.recv(1)


def test_who_waits_for_a_verdict_gives_its_place_to_nobody(control, connect):
    askers = [ask(connect, control) for _ in range(MOST)]
    assert not control.accepting(time.monotonic()), "a poll of the listening socket would spin"
    _, client = connect()
    assert client is None
    control.reply(askers[5][1].number, True, "done")
    assert control.accepting(time.monotonic())
    assert control.accept(time.monotonic()) is not None


def test_the_idle_deadline_is_for_those_that_wait_for_nothing(control, connect):
    (_, waiting), (idle, _), (half, _) = ask(connect, control), connect(), connect()
    half.sendall(b'{"v": 1')
    for client in control.clients():
        control.read(client)
    due = control.due()
    assert due is not None
    control.tick(due - 1)
    assert len(control.clients()) == 3
    control.tick(time.monotonic() + IDLE + 1)
    assert control.clients() == [waiting]
    assert idle.recv(1) == half.recv(1) == b""
    assert control.due() is None


def test_a_turn_takes_one_line_of_each_client_and_not_all_that_there_are(control, connect):
    """10 000 pipelined lines: between any two turns the parent hears signals, children and everybody else."""
    flood, flooding = connect()
    flood.sendall(b'{"v": 1, "command": "status"}\n' * 1000)
    control.read(flooding)
    others = [connect() for _ in range(A_TURN)]
    for sock, client in others:
        sock.sendall(b'{"v": 1, "command": "status"}\n')
        control.read(client)
    first, second = control.requests(), control.requests()
    assert len(first) == A_TURN
    assert flooding.number in [one.who for one in first]
    assert {one.who for one in first + second} == {flooding.number, *(client.number for _, client in others)}
    assert [one.who for one in second].count(flooding.number) == 1
    assert control.due() == 0.0, "what is left is taken without a wait"


def test_what_a_client_sends_ahead_stays_in_the_kernel(control, connect):
    sock, client = connect()
    sock.setblocking(False)
    sent = 0
    for _ in range(2000):
        try:
            sent += sock.send(b'{"v": 1, "command": "reload"}\n' * 1000)
        except BlockingIOError:
            if client.pending == MOST_PENDING:
                break
            if control.interest(client) & selectors.EVENT_READ:
                control.read(client)
        control.requests()
    assert client.pending == MOST_PENDING
    assert len(client.received) <= LONGEST + 65536
    assert control.requests() == []
    assert control.due() is None, "nothing to do before a verdict falls"
    for _ in range(MOST_PENDING):
        control.reply(client.number, True, "done")
    assert control.due() == 0.0


def test_a_client_that_does_not_read_its_answers_is_not_read_from(control, connect):
    sock, client = connect()
    sock.sendall(b'{"v": 1, "command": "status"}\n' * 100)
    control.read(client)
    assert len(control.requests()) == 1
    control.reply(client.number, True, "status", {"text": "x" * 1_000_000})
    assert control.requests() == []
    assert control.interest(client) == selectors.EVENT_WRITE
    control.tick(time.monotonic() + IDLE + 1)
    assert control.clients() == []


def test_an_accept_that_fails_is_a_pause(control, connect, caplog):
    fds = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(control.path)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
            with contextlib.suppress(OSError):
                while True:
                    fds.append(os.dup(0))
            assert control.accept(time.monotonic()) is None
        finally:
            for fd in fds:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert "cannot accept: Too many open files" in caplog.text
        now = time.monotonic()
        assert not control.accepting(now), "a poll would spin"
        assert now < control.due() <= now + 1
        control.tick(now + 1)
        assert control.accept(now + 1) is not None


@pytest.mark.parametrize("number", [b"1" + b"0" * 400, b"-1" + b"0" * 12, b"1e400"])
def test_a_number_beyond_reason_is_answered(control, connect, number):
    sock, client = connect()
    sock.sendall(b'{"v": 1, "command": "status", "number": ' + number + b"}\n")
    assert taken(control, client) == []
    assert not answer(sock)["ok"]


def test_a_forked_child_says_nothing_to_the_clients(control, connect):
    sock, client = connect()
    control.reply(client.number, True, "x" * 1_000_000)

    def child():
        control.end(unlink=False)
        os._exit(0)

    assert processes.wait(processes.fork(child)) == 0
    received = b""
    while not received.endswith(b"\n"):
        control.flush(client)
        received += sock.recv(1 << 20)
    assert json.loads(received)["text"] == "x" * 1_000_000
    assert pathlib.Path(control.path).exists()


def test_a_path_in_use_or_that_is_no_socket_is_an_error_that_names_it(control, tmp_path):
    with pytest.raises(BindError, match=r"control_socket: cannot listen on .*ctl: .*listens there"):
        Control(control.path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BindError, match="not a socket"):
        Control(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_successor_takes_the_clients_over(control, connect, tmp_path):
    sock, client = connect()
    sock.sendall(b'{"v": 1, "command": "reload"}\n')
    taken(control, client)
    with socket.socket(socket.AF_UNIX) as queued:
        queued.connect(control.path)
        successor = Control(str(tmp_path / "elsewhere"))
        successor.succeed(control)
        assert not pathlib.Path(control.path).exists()
        assert len(successor.clients()) == 2, "who waits in the queue is a client too"
        successor.reply(client.number, True, "done")
        assert answer(sock)["ok"]
        successor.end(unlink=True)
    assert not pathlib.Path(successor.path).exists()


@pytest.mark.parametrize("meanwhile", ["removed", "another daemon's", "a file"])
def test_a_file_that_is_not_its_own_any_more_is_left_alone(tmp_path, meanwhile):
    path = tmp_path / "ctl"
    control = Control(str(path))
    path.unlink()
    assert not control.is_at(str(path))
    other = Control(str(path)) if meanwhile == "another daemon's" else None
    if meanwhile == "a file":
        path.write_text("dear")
    control.end(unlink=True)
    assert path.exists() == (meanwhile != "removed")
    if other is not None:
        assert other.is_at(str(path))
        other.end(unlink=True)
        assert not path.exists()
