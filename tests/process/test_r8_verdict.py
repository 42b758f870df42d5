"""R8: the verdict on a reload is the truth, as an exit code, for everybody who asked."""

from __future__ import annotations

import socket
import time

import pytest

from tests.support.apps import pipeline
from tests.support.processes import wait_until


@pytest.mark.also_without_preload
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


@pytest.mark.also_without_preload
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


@pytest.mark.slow
def test_r8_an_application_that_dies_soon_after_ready(daemon, tmp_path):
    """Within the watch the reload fails; later its record tells it."""
    after = tmp_path / "after"
    one = daemon(paste=pipeline("mortal", after=after), workers=1).start()
    one.allow("worker ended: exit:9", "reload failed")
    before = one.worker_pids()

    after.write_text("0.2")
    answer = one.ask("reload")
    assert not answer["ok"]
    assert "3 of its workers ended soon after they were ready, the last one with exit:9" in answer["text"]
    assert before == one.wait_for_workers(1)

    after.write_text("2")
    answer = one.ask("reload")
    assert answer["ok"]
    assert "generation 2 is ready (1 workers, each for 0.5 s at least)" in answer["text"]
    after.unlink()
    change = wait_until(lambda: (last := one.status()["last_change"])["deaths"] and last, "the death is told")
    assert change["ok"]
    assert "1 workers ended within 10 s after it, the last one with exit:9" in change["text"]
    assert one.stop() == 0


def test_r8_a_reload_while_the_first_generation_hangs_in_its_boot_is_taken_at_once(daemon, tmp_path):
    how = tmp_path / "how"
    how.write_text("hang")
    one = daemon(paste=pipeline("bad_at_load", how=how), workers=2).launch()
    wait_until((tmp_path / "how.seen").exists, "one hangs")
    how.write_text("")
    answer = one.ask("reload")
    assert answer["ok"], answer
    status = one.status()
    assert (status["phase"], status["generation"], status["ready"]) == ("running", 2, 2)
    assert one.stop() == 0


def test_r8_a_scale_to_workers_that_do_not_boot_and_numbers_without_a_gap(daemon, tmp_path):
    how = tmp_path / "how"
    one = daemon(paste=pipeline("bad_at_load", how=how), workers=1, preload="off").start()
    one.allow("reload failed", "does not want to be loaded")
    how.write_text("raise")
    done = one.apidctl("scale", "2", check=False)
    assert done.returncode == 1
    assert "1 of 2 workers are ready: worker 1 failed (" in done.stderr
    assert "does not want to be loaded" in done.stderr
    assert "2 remain wanted, and worker 1 is tried again" in done.stderr
    assert not one.ask("reload")["ok"]
    assert not one.ask("reload")["ok"]
    how.write_text("")
    wait_until(lambda: one.status()["ready"] == 2, "it has been tried again", 20)
    assert one.ask("reload")["ok"]
    assert one.status()["generation"] == 2
    assert one.stop() == 0
