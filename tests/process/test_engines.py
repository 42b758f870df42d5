"""engine = threads: the same promises as under eventlet; what differs is what docs/ENGINES.md says."""

from __future__ import annotations

import pathlib
import signal

import pytest

from tests.support.client import Connection, get
from tests.support.processes import wait_until

APP = """
import sys, threading, time

def factory(global_conf, **local_conf):
    def app(environ, start_response):
        path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
        if path == "/sleep":
            time.sleep(float(query))
        elif path == "/begun":
            start_response("200 OK", [("Content-Type", "text/plain")])
            def pieces():
                yield b"begun"
                time.sleep(float(query))
                yield b"ended"
            return pieces()
        said = [threading.current_thread().name, sorted(key for key in environ if key.startswith("eventlet"))]
        said.append("apid.offload" in environ)
        said.append([name for name in ("eventlet", "greenlet") if name in sys.modules])
        body = repr(said).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
    return app
"""


@pytest.fixture
def serve(daemon):
    def serve(**options):
        one = daemon(
            **{
                "engine": "threads",
                "workers": 1,
                "paste": "[app:main]\npaste.app_factory = sleeping:factory\n",
                **options,
            }
        )
        (one.directory / "sleeping.py").write_text(APP)
        return one

    return serve


def test_without_eventlet_installed(serve):
    one = serve()
    for name in ("eventlet", "greenlet"):
        (one.directory / f"{name}.py").write_text('raise ImportError("it is not installed")\n')
    one.start()
    assert "[], False, []]" in get(one.address).text
    worker = one.status()["workers"][0]
    assert (worker["engine"], worker["limit"], worker["stuck"]) == ("threads", 32, 0)
    assert one.stop() == 0


def test_an_engine_that_cannot_be_imported_names_the_other(serve):
    one = serve(engine="eventlet")
    (one.directory / "eventlet.py").write_text('raise ImportError("it is not installed")\n')
    one.launch()
    one.allow("ERROR", "CRITICAL")
    assert one.wait() != 0
    assert (
        "engine = eventlet: eventlet cannot be imported: it is not installed; the other engine is threads" in one.log()
    )


def test_an_engine_that_there_is_not(serve):
    one = serve(engine="gevent")
    assert one.launch().wait() == 2
    assert "must be eventlet or threads" in one.log()


def test_requests_that_block_hold_up_no_other(serve):
    one = serve(pool_size=8).start()
    with Connection(one.address) as first:
        first.send(b"GET /sleep?30 HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(50):
            assert get(one.address).status == 200
        assert one.status()["workers"][0]["in_flight"] == 1
    one.options["graceful_shutdown_timeout"] = 0.1
    one.write_config()
    one.apidctl("reload")
    one.allow("deadline cut")
    one.stop()


def test_an_idle_connection_has_no_thread(serve):
    one = serve(pool_size=2).start()
    kept = [Connection(one.address) for _ in range(50)]
    try:
        for connection in kept * 2:
            assert connection.request().status == 200
        assert len(list(pathlib.Path(f"/proc/{one.worker_pids()[0]}/task").iterdir())) < 12
    finally:
        for connection in kept:
            connection.close()
    assert one.stop() == 0


@pytest.mark.parametrize("path", ["/sleep?3", "/begun?3"])
def test_request_timeout_answers_and_the_slot_stays_taken(serve, path):
    one = serve(request_timeout=0.3, pool_size=4, access_log="access.log").start()
    one.allow("answered, but not ended, by request_timeout")
    with Connection(one.address) as connection:
        connection.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        received = b"".join(iter(lambda: connection.sock.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 503 " if path == "/sleep?3" else b"HTTP/1.1 200 ")
    assert b"ended" not in received.partition(b"\r\n\r\n")[2]
    worker = wait_until(lambda: [w for w in one.status()["workers"] if w["stuck"] == 1], "a slot is stuck")[0]
    assert worker["in_flight"] == 1
    wait_until(lambda: one.status()["workers"][0]["in_flight"] == 0, "the request has ended")
    assert one.status()["workers"][0]["requests"] == 1
    assert one.stop() == 0
    assert len((one.directory / "access.log").read_text().splitlines()) == 1


def test_a_worker_whose_slots_are_stuck_is_replaced(serve):
    one = serve(request_timeout=0.2, pool_size=4).start()
    one.allow("answered, but not ended", "stuck", "worker ended")
    (pid,) = one.wait_for_workers(1)
    waiting = [Connection(one.address) for _ in range(3)]
    for connection in waiting:
        connection.send(b"GET /sleep?4 HTTP/1.1\r\nHost: a\r\n\r\n")
    one.wait_for_workers(1, but=[pid])
    wait_until(lambda: one.status()["ends"].get("stuck") == 1, "it has ended", 20)
    for connection in waiting:
        connection.close()
    assert one.stop() == 0


def test_all_slots_taken_and_nothing_ends_is_a_hang(serve):
    one = serve(worker_timeout=1, pool_size=2).start()
    one.allow("stalled", "hung", "worker ended", "killed", "ERROR", "CRITICAL", "WARNING")
    (pid,) = one.wait_for_workers(1)
    waiting = [Connection(one.address) for _ in range(2)]
    for connection in waiting:
        connection.send(b"GET /sleep?60 HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_until(lambda: one.status()["ends"].get("hung") == 1, "it is replaced", 20)
    assert one.worker_pids() != [pid]
    for connection in waiting:
        connection.close()
    one.wait_for_workers(1, but=[pid])
    assert get(one.address).status == 200
    assert one.stop() == 0


def test_from_one_engine_to_the_other_and_back(serve):
    one = serve().start()
    for engine in ("eventlet", "threads"):
        one.options["engine"] = engine
        one.write_config()
        one.apidctl("reload")
        assert {worker["engine"] for worker in one.status()["workers"] if worker["stage"] == "ready"} == {engine}
        assert ("eventlet.input" in get(one.address).text) == (engine == "eventlet")
    assert one.stop() == 0


def test_a_drain_waits_for_requests_and_cuts_at_its_deadline(serve):
    one = serve(graceful_shutdown_timeout=0.5).start()
    one.allow("deadline cut: GET /sleep", "cut")
    with Connection(one.address) as short, Connection(one.address) as long:
        short.send(b"GET /sleep?0.3 HTTP/1.1\r\nHost: a\r\n\r\n")
        long.send(b"GET /sleep?30 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: one.status()["workers"][0]["in_flight"] == 2, "both run")
        one.process.send_signal(signal.SIGTERM)
        assert short.answer().status == 200
        assert one.wait() == 1


def test_pool_size_beyond_the_limit_of_threads(serve):
    one = serve(pool_size=1_000_000)
    one.allow("ERROR", "CRITICAL")
    assert one.launch().wait() != 0
    assert "pool_size = 1000000: engine = threads needs" in one.log()


def test_an_application_that_replaces_the_standard_library_is_named(serve):
    one = serve()
    one.allow("replaces the standard library", "fork")
    text = (one.directory / "sleeping.py").read_text()
    (one.directory / "sleeping.py").write_text("import eventlet\neventlet.monkey_patch()\n" + text)
    one.start()
    assert f"{one.directory}/sleeping.py:2 replaces the standard library (eventlet.monkey_patch)" in one.log()
    for _ in range(3):
        assert get(one.address, "/sleep?0.01").status == 200
    assert one.stop() == 0
