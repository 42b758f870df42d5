"""What an operator sees of engine = threads: slots that are stuck, requests that hold them, native threads, the GIL."""

from __future__ import annotations

import json
import re
import signal
import subprocess

import pytest

from tests.support.client import Connection, get
from tests.support.daemon import PROGRAM
from tests.support.processes import wait_until

APP = """
import os, time

def factory(global_conf, **local_conf):
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/hang":
            while not os.path.exists("go"):
                time.sleep(0.02)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]
    return app
"""

PASTE = """
[composite:main]
use = egg:Paste#urlmap
/ = app
/metrics = metrics
[app:app]
paste.app_factory = hanging:factory
[app:metrics]
use = egg:apid#metrics
"""


@pytest.fixture
def hanging(daemon):
    """One worker of native threads whose requests to /hang end once the file `go` is there."""

    def start(**options):
        one = daemon(
            paste=PASTE,
            **{
                "engine": "threads",
                "workers": 1,
                "request_timeout": 0.2,
                "pool_size": 8,
                "graceful_shutdown_timeout": 1,
                **options,
            },
        )
        (one.directory / "hanging.py").write_text(APP)
        one.allow("answered, but not ended, by request_timeout")
        return one.start()

    return start


def hang(one):
    """Send a request that hangs; returns when it is stuck."""
    with Connection(one.address) as connection:
        assert connection.request("GET", "/hang").status == 503
    wait_until(lambda: one.status()["workers"][0]["stuck"] == 1, "a slot is stuck")


def test_a_request_that_holds_a_stuck_slot_is_marked(hanging):
    one = hanging()
    hang(one)
    wait_until(lambda: one.status()["workers"][0]["threads"], "the first report of the threads")
    worker = json.loads(one.apidctl("status", "--json").stdout)["workers"][0]
    assert (worker["oldest"]["line"], worker["oldest"]["stuck"]) == ("GET /hang HTTP/1.1", True)
    assert worker["gil"] is True
    assert 1 <= worker["threads"] <= 10
    assert worker["gil_wait"] >= 0
    shown = one.apidctl("status").stdout
    assert re.search(r"^engine threads  native threads \d+  GIL wait \S+  1 slot stuck$", shown, re.MULTILINE)
    assert re.search(r"^SLOT .* BUSY +STUCK +OLDEST", shown, re.MULTILINE)
    scraped = get(one.address, "/metrics").text
    assert 'apid_worker_stuck_requests{generation="1",slot="0"} 1.0' in scraped
    assert 'apid_engine_workers{engine="threads"} 1.0' in scraped
    (one.directory / "go").touch()
    wait_until(lambda: one.status()["workers"][0]["stuck"] == 0, "it has ended")
    assert one.status()["workers"][0]["oldest"] is None
    assert "stuck" not in one.apidctl("status").stdout.lower()
    assert one.stop() == 0


def test_a_deadline_neither_counts_nor_logs_an_answered_request_again(hanging):
    one = hanging(access_log="access.log")
    hang(one)
    before = one.status()["totals"]
    one.signal(signal.SIGTERM)
    code = one.wait()
    lines = (one.directory / "access.log").read_text().splitlines()
    assert (before["requests"], len(lines), code) == (1, 1, 0), one.log()


def test_slots_that_are_all_taken_are_called_so_and_the_dump_shows_where_they_are(hanging):
    one = hanging(pool_size=1, request_timeout=0)
    one.allow("stalled")
    with Connection(one.address) as connection:
        connection.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        one.wait_for_log(
            r"stalled: all slots \(pool_size = 1\) are taken, and none has made progress for \d\.\d s; .*GET /hang"
        )
        assert one.status()["workers"][0]["stalled"] is True
        assert re.search(r"^ *0 .*\bstalled\b.*\b1/1\b", one.apidctl("status").stdout, re.MULTILINE)
        one.apidctl("dump")
        dump = one.log().partition("stacks of ")[2]
        assert re.match(r"\d+ threads\n", dump)
        assert "hanging.py" in dump
        (one.directory / "go").touch()
        assert connection.answer().status == 200
    wait_until(lambda: not one.status()["workers"][0]["stalled"], "it beats again")
    assert one.stop() == 0


@pytest.mark.slow
def test_a_move_that_cannot_be_made_is_refused_and_one_of_a_green_application_is_warned_of(hanging):
    one = hanging(engine="eventlet", request_timeout=0)
    one.allow(
        "reload failed",
        "must be eventlet or threads",
        "engine = threads needs",
        "replaces the standard library",
        "ERROR",
    )
    source = one.directory / "hanging.py"
    source.write_text("import eventlet\neventlet.monkey_patch(thread=False)\n" + APP)
    for engine, size, reason in (
        ("gevent", 8, r"apid.conf:\d+: \[DEFAULT\] engine = gevent: must be eventlet or threads"),
        (
            "threads",
            10**6,
            r"apid.conf:\d+: \[DEFAULT\] pool_size = 1000000: engine = threads needs 1000008 threads .* allows \d+",
        ),
    ):
        one.options.update(engine=engine, pool_size=size)
        one.write_config()
        refused = one.apidctl("reload", check=False)
        assert refused.returncode != 0
        assert re.search(reason, refused.stderr)
        assert [worker["engine"] for worker in one.status()["workers"]] == ["eventlet"]
    one.options.update(pool_size=4)
    one.write_config()
    warning = f"{source}:2 replaces the standard library (eventlet.monkey_patch)"
    checked = subprocess.run(
        [PROGRAM, "--config-file", one.config, "--check-config"], capture_output=True, text=True, check=True
    )
    assert warning in checked.stdout
    assert warning not in one.log()
    one.apidctl("reload")
    assert warning in one.log()
    assert get(one.address).status == 200
