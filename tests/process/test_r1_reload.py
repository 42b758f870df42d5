"""R1: no error over many reloads under load: keep-alive, one request a connection, a UNIX socket. R8 and R13 beside it."""

from __future__ import annotations

import signal

import pytest

from tests.support import wrk
from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.processes import wait_until


def reload_under(one, load, say, times, **options):
    """Reload `times` times under load, each time waiting for the verdict; returns the load's figures, which are printed."""
    with load(one, **options) as running:
        for number in range(times):
            done = one.ask("reload")
            assert done["ok"], done
            assert one.status()["generation"] == number + 2
        figures = running.stop()
    say(f"{times} reloads, {options}: {figures}")
    return figures


WAYS = {"keep-alive": {"mode": "keepalive"}, "one-shot": {"mode": "oneshot"}, "both": {"mode": "mix"}}


@pytest.mark.also_without_preload
@pytest.mark.both_engines(slow=True)
def test_r1_a_few_reloads_lose_nothing(recording, load, say):
    one = recording(workers=2).start()
    figures = reload_under(one, load, say, 3, mode="mix", connections=16)
    assert figures.errors == 0, figures
    assert len(figures.pids) >= 4, "several generations answered"
    assert one.stop() == 0


@pytest.mark.slow
def test_r1_on_a_unix_socket(recording, load, say, tmp_path):
    path = tmp_path / "api.sock"
    one = recording(workers=2, bind=f"unix:{path}", bind_port=None).start()
    figures = reload_under(one, load, say, 3, address=path, mode="mix", connections=16)
    assert figures.errors == 0, figures
    assert one.stop() == 0


@pytest.mark.slow
def test_r1_a_slow_application_is_waited_for(recording, load, say):
    one = recording(workers=2, delay=0.3).start()
    figures = reload_under(one, load, say, 3, mode="mix", connections=16)
    assert figures.errors == 0, figures
    assert one.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "way"), [*(("eventlet", way) for way in (*WAYS, "unix")), ("threads", "both")], indirect=["engine"]
)
def test_r1_fifty_reloads_of_four_workers_under_64_connections(recording, load, say, tmp_path, way):
    path = tmp_path / "api.sock"
    unix = {"bind": f"unix:{path}", "bind_port": None} if way == "unix" else {}
    one = recording(workers=4, **unix).start()
    address = path if way == "unix" else None
    figures = reload_under(
        one, load, say, 50, address=address, connections=64, pace=0.03, **WAYS.get(way, {"mode": "mix"})
    )
    assert figures.errors == 0, figures
    assert one.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("headers", [{}, {"Connection": "close"}], ids=["keep-alive", "one-shot"])
def test_r1_as_wrk_sees_it(daemon, say, tmp_path, headers):
    one = daemon(paste=pipeline("hello"), workers=4).start()
    log = tmp_path / "wrk.log"
    running = wrk.start(f"http://127.0.0.1:{one.port}/", log, seconds=20, headers=headers)
    reloads = 0
    while running.poll() is None:
        done = one.ask("reload")
        assert done["ok"], done
        reloads += 1
    figures = wrk.finish(running, log)
    say(f"{reloads} reloads: {figures}")
    assert reloads >= 3
    assert figures.errors == 0, figures
    assert one.stop() == 0


def test_r8_the_verdict_is_given_when_every_worker_is_of_the_new_generation(daemon):
    one = daemon(paste=pipeline("hello"), workers=3).start()
    done = one.apidctl("reload")
    assert done.returncode == 0
    serving = [worker for worker in one.status()["workers"] if worker["stage"] == "ready"]
    assert [worker["generation"] for worker in serving] == [2, 2, 2]
    assert one.stop() == 0


def test_r13_everything_is_new_after_a_reload(daemon):
    one = daemon(paste="[app:main]\npaste.app_factory = changing:factory\n", workers=1)
    module = one.directory / "changing.py"
    text = "from tests.support.apps import hello\ndef factory(c, **l):\n    return hello.factory(c, word=%r)\n"
    module.write_text(text % "old")
    one.start()
    assert get(one.address).text.startswith("old ")
    module.write_text(text % "newer")
    one.options["workers"] = 2
    one.options["listeners"] = "second"
    one.sections["listener:second"] = {"bind": "127.0.0.1:0", "app_name": "other"}
    one.paste.write_text(
        one.paste.read_text() + "\n[app:other]\npaste.app_factory = tests.support.apps.hello:factory\nword = two\n"
    )
    one.write_config()
    one.signal(signal.SIGHUP)
    one.wait_ready(2)
    # a signal has no verdict, so an old worker may still accept for a moment
    wait_until(lambda: get(one.address).text.startswith("newer "), "the new application")
    one.wait_for_workers(2)
    (second,) = one.addresses("second")
    host, _, port = second.rpartition(":")
    assert get((host, int(port))).text.startswith("two ")
    assert one.stop() == 0
