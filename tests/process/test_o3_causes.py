"""O3: every worker's end has a cause from a closed set, in the log, in `status` and in the counters."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.support.client import AnswerError, get
from tests.support.processes import wait_until

CLOSED = re.compile(r"reload|recycle|rss|scale|hung|boot|stop|crash:SIG[A-Z0-9]+|exit:\d+")

APP = """
import os, pathlib, time
if pathlib.Path("broken").exists():
    raise RuntimeError("broken for a test")
from tests.support.apps import original
def factory(global_conf, **local_conf):
    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/exit":
            os._exit(3)
        if path == "/hang":
            original("time").sleep(60)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]
    return app
"""
PASTE = "[app:main]\npaste.app_factory = causes:factory\n"


def ends(one) -> dict[str, int]:
    return {cause: count for cause, count in one.status()["ends"].items() if count}


@pytest.fixture
def start(daemon):
    def _start(**options):
        one = daemon(paste=PASTE, **options)
        (one.directory / "causes.py").write_text(APP, encoding="utf-8")
        return one.start()

    return _start


def ended(one, cause: str, count: int = 1) -> None:
    wait_until(lambda: ends(one).get(cause) == count, f"{count} ends by {cause}: {ends(one)}", 30)
    one.wait_for_log(rf"worker=\d+ gen=\d+ pid=\d+ worker ended: {cause}\b", count=count)


@pytest.mark.both_engines
def test_an_end_that_nobody_asked_for_names_the_requests_that_it_took(start):
    one = start(workers=1)
    one.allow("worker ended: exit")
    with pytest.raises(AnswerError):
        get(one.address, "/exit?who=7")
    one.wait_for_log(
        r"worker ended: exit:3 \(0 requests\); requests in flight: GET /exit\?who=7 HTTP/1.1 for \d\.\d s \(req-"
    )


@pytest.mark.slow
def test_reload_scale_crash_exit_boot_and_stop(start):
    one = start(preload="off")
    one.allow("worker ended: (crash|exit|boot)", "RuntimeError", "Traceback")
    one.apidctl("reload")
    ended(one, "reload", 2)
    one.apidctl("scale", "1")
    ended(one, "scale")
    (last,) = one.wait_for_workers(1)
    os.kill(last, signal.SIGSEGV)
    ended(one, "crash:SIGSEGV")
    one.wait_for_workers(1, but=[last])
    wait_until(lambda: one.status()["ready"] == 1, "a successor", 30)
    with pytest.raises(AnswerError):
        get(one.address, "/exit")
    ended(one, "exit:3")
    wait_until(lambda: one.status()["ready"] == 1, "a successor", 30)
    assert one.status()["workers"][0]["last_end"] == "exit:3"
    (one.directory / "broken").touch()
    os.kill(one.worker_pids()[0], signal.SIGKILL)
    ended(one, "crash:SIGKILL")
    ended(one, "boot")
    (one.directory / "broken").unlink()
    wait_until(lambda: one.status()["ready"] == 1, "a successor", 30)
    before = ends(one)
    assert one.stop() == 0
    assert len(re.findall("worker ended: stop", one.log())) == 1
    assert all(CLOSED.fullmatch(cause) for cause in before)
    found = re.findall(r"worker ended: (\S+?):? ", one.log())
    assert sum(before.values()) + 1 == len(found)
    assert all(CLOSED.fullmatch(cause) for cause in found)


@pytest.mark.slow
def test_hung(start):
    one = start(workers=1, worker_timeout=2)
    one.allow("hung", "stalled", "worker ended: hung")
    with pytest.raises(AnswerError):
        get(one.address, "/hang", timeout=15)
    ended(one, "hung")


def test_recycle(start):
    """Send exactly max_requests requests: further ones could also recycle the successor before the check."""
    one = start(workers=1, max_requests=3)
    for _ in range(3):
        get(one.address)
    ended(one, "recycle")


@pytest.mark.slow
def test_rss(start):
    one = start(workers=1, max_worker_rss=1)
    ended(one, "rss")
