"""B2 through the daemon: a worker that computes gets few new connections, whatever its engine."""

from __future__ import annotations

import collections
import threading
import time

import pytest

from tests.support.client import Connection

APP = """
import os, time
def factory(global_conf, **local_conf):
    def app(environ, start_response):
        until = time.monotonic() + (0.1 if environ["PATH_INFO"] == "/busy" else 0)
        while time.monotonic() < until:
            pass
        body = str(os.getpid()).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
    return app
"""


@pytest.mark.timing
@pytest.mark.both_engines(slow=True)
def test_b2_a_worker_that_computes_gets_few_new_connections(daemon, say):
    """Under threads it could accept half of them, and each would be answered late, because all share its interpreter."""
    one = daemon(paste="[app:main]\npaste.app_factory = computing:factory\n", workers=2)
    (one.directory / "computing.py").write_text(APP)
    one.start()
    over = threading.Event()
    with Connection(one.address) as held:
        busy = held.request(path="/busy").text

        def compute():
            while not over.is_set():
                held.request(path="/busy")

        thread = threading.Thread(target=compute)
        thread.start()
        try:
            time.sleep(0.5)  # the loop looks four times a second at how late it is
            found = collections.Counter()
            for _ in range(150):
                with Connection(one.address) as connection:
                    found[connection.request().text] += 1
                time.sleep(0.005)  # each comes alone, and finds both workers waiting
        finally:
            over.set()
            thread.join()
    say(f"{found[busy]} of 150")
    assert found[busy] <= 30
    assert one.stop() == 0
