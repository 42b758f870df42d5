"""The control protocol among clients that do not keep to it."""

from __future__ import annotations

import json
import pathlib
import selectors
import socket
import stat

import pytest

from apid.errors import BindError
from apid.parent.control import LONGEST, MOST, Control
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
        return sock, control.accept()

    yield _connect
    for sock in socks:
        sock.close()


def answer(sock):
    return json.loads(sock.makefile("rb").readline())


def test_the_socket_is_the_owners_alone_from_the_first_moment(control):
    assert stat.S_IMODE(pathlib.Path(control.path).stat().st_mode) == 0o600


def test_requests_are_lines_however_they_are_cut(control, connect):
    sock, client = connect()
    sock.sendall(b'{"v": 1, "comm')
    assert control.read(client) == []
    sock.sendall(b'and": "scale", "number": 4}\n{"v": 1, "command": "status"}\n\n{"v"')
    requests = control.read(client)
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
    wait_until(lambda: requests.extend(control.read(client)) or requests, "the good line after the bad one", 5)
    assert [one.command for one in requests] == ["status"]
    said = answer(sock)
    assert said["ok"] is False
    assert reason in said["text"]


def test_a_line_without_an_end_closes_the_connection(control, connect):
    sock, client = connect()
    sock.sendall(b"x" * (LONGEST - 10))
    while control.clients() and len(client.received) < LONGEST - 10:
        assert control.read(client) == []
    assert control.clients()
    sock.sendall(b"x" * 20)
    wait_until(lambda: control.read(client) == [] and not control.clients(), "it is closed", 5)
    assert sock.recv(10) == b""


def test_a_client_that_has_said_its_last_word_still_gets_its_verdict(control, connect):
    sock, client = connect()
    sock.sendall(b'{"v": 1, "command": "reload"}\n')
    sock.shutdown(socket.SHUT_WR)
    assert len(control.read(client)) == 1
    assert control.read(client) == []
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
    assert len(control.read(client)) == 1
    control.read(client)
    assert not client.done, "the verdict on the reload is still to come"


def test_a_client_that_is_gone_is_no_error(control, connect):
    sock, client = connect()
    sock.sendall(b'{"v": 1, "command": "reload"}\n')
    control.read(client)
    sock.close()
    control.reply(client.number, True, "x" * 10)
    control.reply(client.number, True, "x" * 10)
    control.reply(999, True, "nobody has this number")
    assert not control.clients() or client.done or control.read(client) == []


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


def test_more_clients_than_there_is_room_for_wait_outside(control, connect):
    clients = [connect()[1] for _ in range(MOST)]
    sock, client = connect()
    assert client is None
    control.close(clients[0])
    assert control.accept() is not None
    assert sock.fileno() > 0


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
    control.read(client)
    successor = Control(str(tmp_path / "elsewhere"))
    successor.succeed(control)
    assert not pathlib.Path(control.path).exists()
    successor.reply(client.number, True, "done")
    assert answer(sock)["ok"]
    successor.end(unlink=True)
    assert not pathlib.Path(successor.path).exists()
