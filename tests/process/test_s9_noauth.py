"""S9 for pipelines without authentication: the daemon says so once, and answers no page under a name of its own."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.client import Connection, get, request_bytes
from tests.support.daemon import TOP
from tests.support.processes import wait_until

PASTE = (TOP / "etc/apid/api-paste.ini").read_text(encoding="utf-8")
WARNING = (
    "listener main: the filter noauth asks for no credentials: every client of this listener can be an administrator"
)


def ask(address, host, path="/v1/animals"):
    with Connection(address) as connection:
        connection.send(request_bytes("GET", path, host=host))
        return connection.answer()


@pytest.mark.slow
def test_the_warning_comes_once(daemon):
    one = daemon(paste=PASTE, workers=2).start()
    one.wait_for_log(WARNING)
    one.apidctl("reload")
    one.wait_ready(2)
    victim, _ = one.wait_for_workers(2)
    one.allow("worker ended: crash:SIGKILL")
    os.kill(victim, signal.SIGKILL)
    one.wait_for_workers(2, but=[victim])
    wait_until(lambda: one.status()["ready"] == 2, "its successor is ready")
    assert one.log().count(WARNING) == 1
    assert one.stop() == 0


@pytest.mark.parametrize("workers", [1, 0])
def test_other_hosts_are_refused(daemon, workers):
    one = daemon(paste=PASTE, workers=workers, control_socket=None).start()
    one.wait_for_log(WARNING)
    port = one.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        assert ask(one.address, host).status == 200
    answer = ask(one.address, f"evil.example:{port}")
    assert answer.status == 421
    assert b"allowed_hosts" in answer.body
    assert ask(one.address, "evil.example", "/healthcheck").status == 200
    assert get(one.address).status == 300
    assert one.stop() == 0


def test_hosts_of_the_configuration_are_allowed(daemon):
    one = daemon(paste=PASTE, workers=1, bind="0.0.0.0:0", allowed_hosts="api.example.org").start()
    address = ("127.0.0.1", one.port)
    assert ask(address, "api.example.org").status == 200
    assert ask(address, "127.0.0.1").status == 421
    assert one.stop() == 0


def test_a_pipeline_that_asks_for_credentials_says_nothing(daemon):
    one = daemon(paste=PASTE.replace("sizelimit noauth api", "sizelimit api"), workers=1).start()
    assert "credentials" not in one.log()
    assert one.stop() == 0
