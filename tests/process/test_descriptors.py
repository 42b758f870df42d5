"""Descriptors that somebody else made: a socket handed over (`bind = fd:NAME`), and pipes to log to."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket

import pytest

from tests.support.apps import pipeline
from tests.support.daemon import PROGRAM

PASTE = pipeline("hello")


def get(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_socket_that_was_handed_over_is_served_also_after_a_reload(daemon):
    with socket.create_server(("127.0.0.1", 0)) as handed_over:
        port = handed_over.getsockname()[1]
        one = daemon(listen={"api": handed_over}, bind="fd:api", paste=PASTE).start()
        assert get(port) == 200
        one.apidctl("reload")
        assert get(port) == 200
        one.stop()
        assert "handed over, and no address wants it" not in one.log()


def told(manager: socket.socket, last: bytes) -> list[bytes]:
    """Return the notifications up to the one that holds `last`."""
    found = [b""]
    while last not in found[-1]:
        data, descriptors, _, _ = socket.recv_fds(manager, 4096, 4)
        for fd in descriptors:
            os.close(fd)
        found.append(data)
    return found


def test_what_a_socket_unit_keeps_is_not_stored_a_second_time(daemon, tmp_path):
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.create_server(("127.0.0.1", 0)) as handed_over,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        bind = ["fd:api", "127.0.0.1:0"]
        one = daemon(listen={"api": handed_over}, bind=bind, paste=PASTE, environment=environment).start()
        before = told(manager, b"READY=1")
        one.signal(signal.SIGTERM)
        stored = [line for line in before + told(manager, b"STOPPING=1") if b"FDSTORE=1" in line]
        assert len(stored) == 1
        assert b"FDNAME=apid-main/127.0.0.1_0\n" in stored[0]
        assert one.wait() == 0


def test_one_that_nobody_wants_is_closed_and_named(daemon):
    with socket.create_server(("127.0.0.1", 0)) as handed_over:
        one = daemon(listen={"other": handed_over}, paste=PASTE).start()
        assert "the descriptor other was handed over, and no address wants it (bind = fd:other): closed" in one.log()


@pytest.mark.both_engines
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash for its process substitution")
def test_log_and_access_log_may_be_pipes(daemon):
    """Under systemd and in containers they are: eventlet's os.write would fail as soon as a worker logs from its hub."""
    piped = ["bash", "-c", 'exec "$0" "$@" > >(cat) 2> >(cat >&2)', str(PROGRAM)]
    one = daemon(program=piped, paste=PASTE, access_log="-", debug=True).start()
    port = int(one.wait_for_log(r"listening on 127\.0\.0\.1:(\d+)")[1])
    for _ in range(3):
        assert get(port) == 200
    one.wait_for_log(r'"GET / HTTP/1\.1" 200 ', count=3)
    assert one.stop() == 0
