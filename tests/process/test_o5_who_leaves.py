"""O5: "this worker leaves" and "this daemon leaves" are told apart; health checks fail for the second only."""

from __future__ import annotations

import os
import signal

from tests.process.test_healthcheck_drain import PASTE
from tests.support.apps import pipeline
from tests.support.client import AnswerError, Connection, get, request_bytes
from tests.support.processes import wait_until

WORKER = {"daemon": False, "worker": True}
DAEMON = {"daemon": True, "worker": True}


def test_o5_a_request_learns_which_of_the_two_leaves(daemon, tmp_path):
    one = daemon(paste=pipeline("leaving", gates=tmp_path), workers=1).start()
    one.allow("worker ended: exit:0")

    def begin(name):
        connection = Connection(one.address)
        connection.send(request_bytes(path=f"/{name}"))
        wait_until((tmp_path / f"{name}.began").exists, f"{name} is in flight")
        return connection

    def end(name, connection):
        (tmp_path / name).touch()
        with connection:
            return connection.answer().json()

    first = begin("reload")
    assert one.ask("reload")["ok"]
    assert end("reload", first) == WORKER

    second = begin("quiesce")
    one.signal(signal.SIGWINCH)
    one.wait_for_log("quiescing")
    wait_until(lambda: one.status()["workers"][0]["stage"] == "draining", "it drains")
    assert end("quiesce", second) == DAEMON

    assert one.ask("reload")["ok"]
    third = begin("worker")
    (pid,) = (worker["pid"] for worker in one.status()["workers"] if worker["stage"] == "ready")
    os.kill(pid, signal.SIGTERM)
    one.wait_for_log("received SIGTERM: draining")
    assert end("worker", third) == WORKER

    one.wait_for_workers(1, but=[pid])
    wait_until(lambda: one.status()["ready"] == 1, "its successor serves")
    old = begin("old")
    assert one.ask("reload")["ok"]
    new = begin("new")
    one.signal(signal.SIGTERM)
    one.wait_for_log("stopping: ")
    assert end("old", old) == DAEMON, "a worker that a reload had dismissed already"
    assert end("new", new) == DAEMON
    assert one.wait() == 0


def test_o5_the_health_check_of_kept_connections_is_good_during_reloads(daemon):
    one = daemon(paste=PASTE, workers=2).start()
    answers = []
    for _ in range(2):
        kept = [Connection(one.address) for _ in range(8)]
        answers += [connection.request(path="/healthcheck") for connection in kept]
        assert one.ask("reload")["ok"]
        for connection in kept:
            with connection:
                try:
                    answers.append(connection.request(path="/healthcheck"))
                except (AnswerError, OSError):
                    continue  # closed after its grace
    assert len(answers) > 16
    assert {(answer.status, answer.text) for answer in answers} == {(200, "OK")}
    assert get(one.address, "/healthcheck").text == "OK"
    assert one.stop() == 0
