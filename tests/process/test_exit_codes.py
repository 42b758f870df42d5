"""With what apid ends: each code of the table in README.md, from a real start."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import textwrap
import threading

import pytest

from tests.support.apps import pipeline
from tests.support.client import Connection, NoAnswer, get, request_bytes
from tests.support.daemon import CONTROL, PROGRAM
from tests.support.processes import wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_0_after_a_clean_stop(daemon, number):
    one = daemon(paste=pipeline("hello")).start()
    assert get(one.address).status == 200
    assert one.stop(number) == 0


def test_1_when_the_drain_deadline_cut_something(daemon, tmp_path):
    one = daemon(
        paste=pipeline("slow", seconds=60, began=tmp_path / "began"), graceful_shutdown_timeout=1, workers=1
    ).start()
    outcome = []

    def ask():
        with Connection(one.address, timeout=30) as connection:
            try:
                outcome.append(connection.request("GET", "/cut/me"))
            except (NoAnswer, ConnectionResetError) as error:
                outcome.append(error)

    client = threading.Thread(target=ask)
    client.start()
    try:
        wait_until((tmp_path / "began").exists, "the request is in flight")
        assert one.stop() == 1
    finally:
        one.kill()
        client.join(30)
    assert len(outcome) == 1
    found = re.search(r"the drain deadline cut: .*GET /cut/me", one.log())
    assert found, one.log()
    one.allow(r"drain deadline cut")


@pytest.mark.both_engines
@pytest.mark.parametrize("workers", [1, 0], ids=["forked", "inline"])
@pytest.mark.parametrize("signals", [["INT"], ["QUIT"], ["TERM", "TERM"]], ids="-".join)
def test_1_when_a_stop_now_lost_requests(daemon, tmp_path, workers, signals):
    control = {"control_socket": None} if not workers else {}
    paste = pipeline("slow", seconds=60, began=tmp_path / "began")
    one = daemon(paste=paste, workers=workers, **control).start()
    with Connection(one.address) as connection:
        connection.send(request_bytes("POST", "/lost/one", body=b"{}"))
        wait_until((tmp_path / "began").exists, "the request is in flight")
        for number, name in enumerate(signals):
            if number:
                one.wait_for_log("stopping: |received SIGTERM")
            one.signal(getattr(signal, f"SIG{name}"))
        assert one.wait() == 1
    assert re.search(
        r"the stop now cut: POST /lost/one HTTP/1.1 \d\.\d s req-|cut: POST /lost/one \d\.\d s req-", one.log()
    )


@pytest.mark.both_engines
def test_1_when_a_stop_now_lost_the_request_of_a_worker_that_hangs(daemon, engine):
    one = daemon(paste=pipeline("hanging"), workers=1, pool_size=1).start()
    with Connection(one.address) as connection:
        connection.send(request_bytes(path="/loop"))
        wait_until(lambda: one.status()["workers"][0]["oldest"], "the request is in flight")
        assert one.stop(signal.SIGINT) == 1
    killed = r"worker ended: stop \(0 requests\); requests in flight: GET /loop.* s \(req-"
    itself = r"the stop now cut: GET /loop .* s req-"  # only the request's thread hangs
    assert re.search(killed if engine == "eventlet" else itself, one.log())
    one.allow("did not leave in time: killed")


def test_2_for_a_wrong_option(daemon):
    one = daemon(paste=pipeline("hello"), workres=3).launch()
    assert one.wait() == 2
    assert "workres" in one.log()
    assert "workers" in one.log(), "the nearest known name is told"
    assert "apid.conf" in one.log()
    assert "Traceback" not in one.log()
    assert "ready" not in one.log()


def test_2_for_an_application_that_exits_while_it_is_loaded(daemon):
    one = daemon()
    how = one.directory / "how"
    how.write_text("exit")
    one.paste.write_text(pipeline("bad_at_load", how=how))
    assert one.launch().wait() == 2
    assert "SystemExit: 7" in one.log()
    one.allow(".")


def test_2_for_a_wrong_pipeline(daemon):
    one = daemon(paste="[app:main]\npaste.app_factory = no.such.module:factory\n").launch()
    assert one.wait() == 2
    assert "api-paste.ini:1: [app:main]: no.such.module:factory cannot be imported" in one.log()
    assert "Traceback" not in one.log()
    assert "ready" not in one.log()
    one.allow("CRITICAL", "ERROR")


@pytest.mark.parametrize("words", [["--no-such-option", "1"], ["--config-file", "/no/such/file.conf"], ["surplus"]])
def test_2_for_a_wrong_command_line(words):
    done = subprocess.run([str(PROGRAM), *words], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2, done
    assert words[-1] in done.stderr or words[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_3_for_an_address_in_use(daemon):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one = daemon(paste=pipeline("hello"), bind_port=port).launch()
        assert one.wait() == 3
    assert f"127.0.0.1:{port}" in one.log()
    assert "Traceback" not in one.log()
    one.allow("CRITICAL", "ERROR")


@pytest.mark.parametrize("how", ["die", "segv", "hang"])
def test_4_when_no_worker_ever_became_ready(daemon, tmp_path, how):
    (tmp_path / "how").write_text(how)
    one = daemon(paste=pipeline("bad_at_load", how=tmp_path / "how"), startup_timeout=2, workers=1).launch()
    assert one.wait(60) == 4
    assert "no worker" in one.log()
    assert "worker ended: stop" not in one.log(), "why a worker ended is why the start failed"
    one.allow(".")


@pytest.mark.parametrize(("workers", "limit"), [(2, 7), (2, 8), (2, 9), (0, 5), (0, 8)])
def test_4_when_the_system_refuses_a_resource(daemon, workers, limit):
    """A full descriptor table is no fault of apid's own."""
    program = ["prlimit", f"--nofile={limit}", str(PROGRAM)]
    one = daemon(
        paste=pipeline("hello"), workers=workers, control_socket=None, startup_timeout=2, program=program
    ).launch()
    assert one.wait(60) == 4
    assert "Too many open files" in one.log()
    one.allow(".")


SITE = """
import os
def memfd_create(*_):
    raise ZeroDivisionError("injected by a test")
os.memfd_create = memfd_create
"""


def test_70_for_a_fault_of_its_own(daemon):
    one = daemon(paste=pipeline("hello"))
    (one.directory / "sitecustomize.py").write_text(textwrap.dedent(SITE))
    one.launch()
    assert one.wait() == 70
    assert "injected by a test" in one.log()
    one.allow(".")


def test_apidctl_says_when_there_is_no_daemon(tmp_path):
    command = [str(CONTROL), "--socket", str(tmp_path / "nobody"), "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode not in {0, 70}
    assert str(tmp_path / "nobody") in done.stderr
    assert "Traceback" not in done.stderr
