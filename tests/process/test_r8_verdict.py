"""R8: the verdict on a reload is the truth, as an exit code, for everybody who asked."""

from __future__ import annotations

import socket
import time

from tests.support.apps import pipeline
from tests.support.processes import wait_until


def test_r8_the_exit_code_of_apidctl(daemon, tmp_path):
    how = tmp_path / "how"
    one = daemon(paste=pipeline("bad_at_load", how=how), workers=2, startup_timeout=3).start()
    one.allow("reload failed", "killed")
    before = one.worker_pids()

    how.write_text("raise")
    done = one.apidctl("reload", check=False)
    assert done.returncode == 1
    assert "this application does not want to be loaded" in done.stderr
    assert "Traceback" in done.stderr
    assert one.worker_pids() == before

    how.write_text("hang")
    began = time.monotonic()
    done = one.apidctl("--timeout", "1", "reload", check=False)
    assert done.returncode == 1
    assert "no verdict on reload within 1 s" in done.stderr
    assert time.monotonic() - began < 10
    one.wait_for_log("the trial did not end within|did not load within|startup_timeout", 10)

    how.write_text("")
    done = one.apidctl("reload")
    assert done.returncode == 0
    status = one.status()
    assert {worker["generation"] for worker in status["workers"] if worker["stage"] == "ready"} == {
        status["generation"]
    }
    assert status["ready"] == 2
    assert set(one.worker_pids()).isdisjoint(before) or wait_until(
        lambda: set(one.worker_pids()).isdisjoint(before), "the old ones leave"
    )
    assert one.stop() == 0


def test_r8_whoever_asks_during_a_reload_gets_the_verdict_of_the_next(daemon):
    one = daemon(paste=pipeline("hello"), workers=1).start()
    clients = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(8)]
    for client in clients:
        client.settimeout(30)
        client.connect(str(one.control))
        client.sendall(b'{"v": 1, "command": "reload"}\n')
    answers = [client.recv(65536) for client in clients]
    for client in clients:
        client.close()
    assert all(b'"ok": true' in answer for answer in answers), answers
    assert 2 <= one.status()["generation"] <= 3, "one running and one waiting"
    assert one.stop() == 0
