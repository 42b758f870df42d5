"""engine = threads: the same promises as under eventlet; what differs is what docs/ENGINES.md says."""

from __future__ import annotations

import contextlib
import json
import pathlib
import socket
import struct

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
        elif path == "/read":
            environ["wsgi.input"].read()
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
        wait_until(lambda: one.status()["workers"][0]["in_flight"] == 1, "the first alone is in flight")
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


@pytest.mark.slow
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


def test_from_one_engine_to_the_other_and_back_under_load(recording, load):
    one = recording(engine="threads", workers=2).start()
    with load(one, mode="mix", connections=8, processes=1) as running:
        for engine in ("eventlet", "threads"):
            one.options["engine"] = engine
            one.write_config()
            assert one.ask("reload")["ok"]
            assert {worker["engine"] for worker in one.status()["workers"] if worker["stage"] == "ready"} == {engine}
        figures = running.stop()
    assert figures.errors == 0, figures
    assert one.stop() == 0


def test_a_stop_while_every_slot_hangs_ends_at_its_deadline_and_names_them(serve):
    one = serve(graceful_shutdown_timeout=1, pool_size=2, worker_timeout=0).start()
    one.allow("deadline cut", "stalled")
    with contextlib.ExitStack() as stack:
        for number in (1, 2, 3):
            connection = stack.enter_context(Connection(one.address))
            connection.send(f"GET /sleep?30.{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until(lambda: one.status()["workers"][0]["in_flight"] == 2, "no slot is free")
        assert one.stop(deadline=10) == 1
    cut = one.wait_for_log("the drain deadline cut: .*")[0]
    assert cut.count("GET /sleep?30.") == 3
    assert cut.count("(waiting for a slot)") == 1, "it was read while the drain emptied the accept queue"


@pytest.mark.both_engines
def test_a_client_that_leaves_costs_its_own_request_only(serve, engine):
    one = serve(engine=engine, access_log="access.log", access_log_format="json").start()
    for octets in (b"GET /sleep?0.5", b"GET /begun?0.5", b"POST /read"):
        with Connection(one.address) as connection:
            connection.send(octets + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome")
            wait_until(lambda: one.status()["workers"][0]["in_flight"] == 1, "it runs")
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert get(one.address).status == 200
        wait_until(lambda: one.status()["workers"][0]["in_flight"] == 0, "its slot is free")
    assert one.stop() == 0
    entries = map(json.loads, (one.directory / "access.log").read_text().splitlines())
    assert sorted(entry["outcome"] for entry in entries) == ["client_gone"] * 3 + ["complete"] * 3


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
