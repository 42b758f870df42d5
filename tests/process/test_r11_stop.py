"""R11: a stop answers every connection whose handshake was done before the signal; later ones are refused."""

from __future__ import annotations

import contextlib
import signal

import pytest

from tests.support.apps import pipeline
from tests.support.client import Connection, request_bytes
from tests.support.processes import wait_until


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
