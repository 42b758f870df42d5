"""B1 to B4: several workers at one socket."""

import collections
import contextlib
import functools
import signal
import threading
import time

import pytest

from apid import scoreboard
from apid.conf.settings import Http
from tests.support import conditions, processes, wrk
from tests.support.apps import framing
from tests.support.client import Connection, request_bytes
from tests.support.engine import wait_for

pytestmark = pytest.mark.timing


def burst(engine, count):
    """Open connections as fast as it goes, each with a first request, as wrk does."""
    made = [engine.connect() for _ in range(count)]
    for one in made:
        one.send(request_bytes())
    for one in made:
        assert one.answer().status == 200
    return made


@pytest.mark.parametrize(("workers", "family"), [(2, "tcp"), (4, "tcp"), (8, "tcp"), (4, "unix")])
def test_b1_a_cold_burst_is_shared_evenly(serving, workers, family, tmp_path):
    with serving(framing.app, workers=workers, unix=str(tmp_path / "s") if family == "unix" else None) as engine:
        # A machine that is busy with something else may starve a worker for as long as its siblings are patient: three tries.
        tries = []
        for _ in range(3):
            made = burst(engine, 100)
            counts = [row.connections[row.index] for row in engine.rows]
            assert sum(counts) == 100
            tries.append(max(counts) / max(1, min(counts)))
            if tries[-1] <= 1.3:
                break
            for one in made:
                one.close()
            wait_for(lambda: sum(row.connections[row.index] for row in engine.rows) == 0)
        assert min(tries) <= 1.3, tries


def test_b1_with_wrk(serving, tmp_path):
    log = tmp_path / "wrk"
    with serving(framing.app, workers=8) as engine:
        host, port = engine.address

        def spread():
            """Connections of each worker, once all are open."""
            seen = [row.cells[scoreboard.CONNECTIONS] for row in engine.rows]
            return seen if sum(seen) == 100 else None

        ratios = []
        for _ in range(3):
            running = wrk.start(f"http://{host}:{port}/", log, connections=100, threads=1, seconds=20)
            try:
                seen = wait_for(spread, engine.logged, 15)
            finally:
                running.send_signal(signal.SIGINT)
                figures = wrk.finish(running, log)
            assert figures.errors == 0, figures
            ratios.append(max(seen) / max(1, min(seen)))
            if ratios[-1] <= 1.3:
                break
            wait_for(lambda: engine.total(scoreboard.CONNECTIONS) == 0)
        assert min(ratios) <= 1.3, ratios


@pytest.mark.only("eventlet", "its loop stands still while a request computes, so that the kernel wakes another worker")
def test_b2_a_busy_worker_gets_few_new_connections(serving):
    with serving(framing.busy_or_pid, workers=2) as engine, Connection(engine.address) as held:
        busy = held.request(path="/busy?0.1").text
        stop = threading.Event()

        def keep_busy():
            while not stop.is_set():
                held.request(path="/busy?0.1")

        thread = threading.Thread(target=keep_busy)
        thread.start()
        who = collections.Counter()
        for _ in range(150):
            with Connection(engine.address) as one:
                who[one.request().text] += 1
            time.sleep(0.005)
        stop.set()
        thread.join()
        assert who[busy] <= 15, who


@pytest.mark.only(
    "threads", "its loop accepts while a request computes, so that a busy worker gets connections and serves them"
)
def test_b2_a_busy_worker_answers_new_connections_meanwhile(serving):
    with serving(framing.busy_or_pid) as engine, Connection(engine.address) as held:
        held.send(request_bytes(path="/busy?1.5"))
        wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == 1)
        for _ in range(20):
            with Connection(engine.address) as one:
                assert one.request().status == 200
        assert not held.ended()
        assert held._unread == b"", "the busy request was over before the others were answered"
        assert held.answer().status == 200


def test_b3_a_lonely_connection_wakes_one_worker(serving):
    with serving(framing.app, workers=8) as engine:
        for _ in range(40):
            with Connection(engine.address) as one:
                one.request()
            time.sleep(0.02)
        assert engine.total(scoreboard.ACCEPTED) == 40
        assert engine.total(scoreboard.WAKEUPS) <= 44
        accepted = [row.cells[scoreboard.ACCEPTED] for row in engine.rows]
        assert max(accepted) <= 8, accepted


def test_b4_a_full_pool_leaves_the_connection_to_a_free_sibling(serving):
    with serving(framing.app, Http(pool_size=1), workers=2) as engine:
        long = engine.connect()
        long.send(request_bytes(path="/sleep?60"))  # ended with the engine
        wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == 1)
        for _ in range(20):
            with Connection(engine.address) as one:
                assert one.request().status == 200
        wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == 1)  # a slot is given back after its answer has been read
        also_long = engine.connect()
        also_long.send(request_bytes(path="/sleep?0.5"))
        wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == 2)
        accepted = engine.total(scoreboard.ACCEPTED)
        waiting = engine.connect()
        waiting.send(request_bytes())
        assert also_long.answer().status == 200
        assert waiting.answer().status == 200
        assert engine.total(scoreboard.ACCEPTED) == accepted + 1


def test_b4_the_request_that_takes_the_last_slot_and_a_connection_in_one_turn(serving):
    """Both arrive while the worker is stopped, so that its loop finds them in one turn, the request first."""
    with serving(framing.app, Http(pool_size=1)) as engine:
        first = engine.connect()
        assert first.request().status == 200
        wait_for(lambda: engine.total(scoreboard.REQUESTS) == 1)
        wait_for(lambda: processes.asleep(engine.pids[0]))  # until then the connection may not be registered
        engine.kill(signal.SIGSTOP)
        wait_for(lambda: processes.state(engine.pids[0]) == "T")
        first.send(request_bytes(path="/sleep?1"))
        second = engine.connect()
        second.send(request_bytes())
        engine.kill(signal.SIGCONT)
        wait_for(lambda: engine.total(scoreboard.IN_FLIGHT) == 1)
        time.sleep(0.4)  # longer than one tick of the loop, which polls the socket
        assert engine.total(scoreboard.IN_FLIGHT) == 1
        assert engine.total(scoreboard.ACCEPTED) == 1, "a sibling could have served the second"
        assert first.answer().status == 200
        assert second.answer().status == 200


def test_what_a_worker_leaves_to_its_siblings_is_found_by_them(serving, tmp_path):
    """The kernel has woken only the worker that leaves the connection; its sibling finds it by polling."""
    taker = tmp_path / "taker"
    leaves = functools.partial(conditions.first_takes_and_second_leaves, str(taker))

    with (
        serving(framing.pid, workers=2, prepare=leaves) as engine,
        contextlib.ExitStack() as stack,
    ):
        takes = int(taker.read_text())
        held = {}
        while len(set(held.values())) < 2 or list(held.values())[-1] != takes:
            one = stack.enter_context(Connection(engine.address))
            held[one] = int(one.request().text)
            assert len(held) < 50
        # the worker that leaves connections has now waited longest, so it is woken, and has more connections than the other
        for one in [one for one, pid in held.items() if pid == takes]:
            one.close()
        row = engine.rows[engine.pids.index(takes)]
        wait_for(lambda: row.connections[row.index] == 0)
        with Connection(engine.address) as one:
            assert int(one.request().text) == takes


def test_counters_are_exact_at_rest(serving):
    with serving(framing.app, workers=3) as engine:
        burst(engine, 60)
        at_rest = {"REQUESTS": 60, "STATUS_2XX": 60, "ACCEPTED": 60, "IN_FLIGHT": 0, "IDLE": 60}
        wait_for(lambda: {name: engine.total(getattr(scoreboard, name)) for name in at_rest} == at_rest)
        wait_for(lambda: sum(sum(row.histogram) for row in engine.rows) == 60)
        assert all(row.flights() == [] for row in engine.rows)
        assert all(time.monotonic_ns() - row.cells[scoreboard.BEAT_NS] < 2e9 for row in engine.rows)
