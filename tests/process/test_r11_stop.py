"""R11: a stop answers every connection whose handshake was done before the signal; later ones are refused."""

from __future__ import annotations

import contextlib
import signal

import pytest

from tests.support.apps import pipeline
from tests.support.client import Connection, request_bytes
from tests.support.processes import wait_until


@pytest.mark.both_engines
@pytest.mark.parametrize("pool_size", [1, 1000], ids=["full pool", "free pool"])
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_r11_what_waits_in_the_kernel_is_answered(daemon, tmp_path, pool_size, unix):
    path = tmp_path / "api.sock"
    bind = {"bind": f"unix:{path}", "bind_port": None} if unix else {}
    one = daemon(paste=pipeline("slow", seconds=0.02), workers=2, pool_size=pool_size, **bind).start()
    address = path if unix else one.address
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(60):
            connection = stack.enter_context(Connection(address, timeout=20))
            connection.send(request_bytes(headers={"Connection": "close"}))
            connections.append(connection)
        one.signal(signal.SIGTERM)
        answers = [connection.answer() for connection in connections]
        assert [answer.status for answer in answers] == [200] * 60
        assert one.wait() == 0
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        Connection(address)


@pytest.mark.both_engines
def test_r11_new_connections_are_refused_while_the_old_ones_are_finished(daemon, tmp_path):
    one = daemon(paste=pipeline("slow", seconds=1.0, began=tmp_path / "began"), workers=1).start()
    with Connection(one.address) as connection:
        connection.send(request_bytes())
        wait_until((tmp_path / "began").exists, "the request is in flight")
        one.signal(signal.SIGTERM)

        def refused():
            try:
                Connection(one.address).close()
            except ConnectionRefusedError:
                return True
            return False

        wait_until(refused, "new connections are refused", 5)
        assert connection.answer().status == 200
    assert one.wait() == 0


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_r11_what_waits_in_the_kernel_since_a_quiesce_is_answered(daemon, tmp_path, unix):
    path = tmp_path / "api.sock"
    bind = {"bind": f"unix:{path}", "bind_port": None} if unix else {}
    one = daemon(paste=pipeline("hello"), workers=2, **bind).start()
    one.signal(signal.SIGWINCH)
    one.wait_for_workers(0)
    address = path if unix else one.address
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(address, timeout=20)) for _ in range(20)]
        for connection in connections:
            connection.send(request_bytes(headers={"Connection": "close"}))
        one.signal(signal.SIGTERM)
        assert [connection.answer().status for connection in connections] == [200] * 20
        assert one.wait() == 0


def test_r11_what_waits_in_the_kernel_and_is_not_answered_is_told(daemon):
    one = daemon(paste=pipeline("hello"), workers=2).start()
    one.signal(signal.SIGWINCH)
    one.wait_for_workers(0)
    with Connection(one.address) as first, Connection(one.address) as second:
        first.send(request_bytes())
        second.send(request_bytes())
        assert one.stop(signal.SIGINT) == 1
    assert "connections in the accept queues were lost: 2" in one.log()
