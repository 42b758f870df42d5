"""H8: whatever the application has done to the process, the parent gets an answer to each of its orders."""

from __future__ import annotations

import pytest

from tests.support.client import Connection, request_bytes
from tests.support.processes import wait_until

APPLICATION = """
import gc, logging, os, signal, sys, time

def wait(condition):
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)

def factory(global_conf, what):
    if what == "objects":
        gc.get_objects = sys._current_frames = None
    elif what == "lock":
        logging._lock.acquire()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/careless":
            wait(lambda: os.path.exists("draining"))
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            wait(lambda: signal.getsignal(signal.SIGTERM) != signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    return app
"""


def serve(daemon, what):
    one = daemon(paste=f"[app:main]\npaste.app_factory = spoiling:factory\nwhat = {what}\n", workers=1)
    (one.directory / "spoiling.py").write_text(APPLICATION)
    return one.start()


@pytest.mark.both_engines
def test_h8_a_dump_that_fails_is_answered(daemon):
    one = serve(daemon, "objects")
    one.allow("the stacks cannot be collected", "Traceback", "TypeError")
    answer = one.apidctl("dump", check=False)
    assert answer.returncode == 1
    assert "worker 0: TypeError: 'NoneType' object is not callable" in answer.stderr
    one.wait_for_log("the stacks cannot be collected")
    one.apidctl("reload")
    assert one.stop() == 0


@pytest.mark.both_engines
def test_h8_the_application_keeps_the_lock_of_logging(daemon):
    one = serve(daemon, "lock")
    for order in ("dump", "reopen", "reload", "dump"):
        one.apidctl(order)
    assert one.log().count("stacks of ") == 2
    assert one.stop() == 0


def test_h8_a_worker_that_drains_restores_its_signals(daemon):
    """A request of a worker that drains removes the handler of SIGTERM, which would end the worker.

    Python lets no request that runs in a native thread do so.
    """
    one = serve(daemon, "nothing")
    one.allow("the application changed the handler of SIGTERM: restored")
    with Connection(one.address) as client:
        client.send(request_bytes("GET", "/careless"))
        wait_until(lambda: one.status()["workers"][0]["in_flight"] == 1, "the request runs")
        one.apidctl("reload")
        wait_until(lambda: any(worker["stage"] == "draining" for worker in one.status()["workers"]), "it drains")
        (one.directory / "draining").touch()
        assert client.answer().body == b"ok"
    one.wait_for_log("worker ended: reload")
    assert one.stop() == 0
