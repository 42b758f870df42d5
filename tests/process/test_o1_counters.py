"""O1: counters are exact at rest and never go back, over reloads, kills, recycling and an upgrade."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time

import pytest

from tests.support.client import AnswerError, Connection, get
from tests.support.load import Load
from tests.support.processes import wait_until
from tests.support.wrk import wrk

RECORDING = "[app:main]\npaste.app_factory = tests.support.apps.recording:factory\n"

EXACT = """
local count = 0
function response()
  count = count + 1
  if count == %d then wrk.thread:stop() end
end
"""
"""wrk ends each thread at so many answers: with one connection a thread nothing is in flight when it stops counting."""


@pytest.mark.both_engines(slow=True)
def test_equal_to_what_wrk_counted(daemon, tmp_path):
    one = daemon(paste=RECORDING).start()
    script = tmp_path / "exact.lua"
    script.write_text(EXACT % 200, encoding="utf-8")
    figures = wrk(f"http://127.0.0.1:{one.port}/", threads=4, connections=4, seconds=2, script=script)
    assert figures.errors == 0
    assert figures.requests == 800

    def counted(found):  # after the answer is sent, in several steps
        totals, latency, workers = found["totals"], found["latency"]["buckets"], found["workers"]
        return (
            totals["requests"],
            totals["status_2xx"],
            sum(count for _, count in latency),
            sum(worker["requests"] for worker in workers),
            [worker["in_flight"] for worker in workers],
        )

    expected = (*(figures.requests,) * 4, [0, 0])
    wait_until(lambda: counted(one.status()) == expected, "the requests are counted", 30)
    assert one.status()["totals"]["accepted"] >= 4
    wait_until(lambda: all(worker["connections"] == 0 for worker in one.status()["workers"]), "no connection left", 30)


@pytest.mark.both_engines
def test_refusals_are_counted_by_their_reason(daemon):
    one = daemon(paste=RECORDING, workers=1, header_timeout=0.3).start()
    long = b"a" * 9000
    for octets, code in (
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\n", "408"),
        (b"GET /" + long + b" HTTP/1.1\r\nHost: a\r\n\r\n", "414"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + long + long + b"\r\n\r\n", "431"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", "417"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505"),
        # found out in the middle of the content, when an application reads it
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "400"),
    ):
        before = one.status()
        with Connection(one.address) as client:
            client.send(octets)
            assert str(client.answer().status) == code
        expected = {**before["refusals"], code: before["refusals"][code] + 1}
        wait_until(lambda: one.status()["refusals"] == expected, f"{octets[:60]!r} is counted")  # noqa: B023 - called in this turn
        wait_until(lambda: one.status()["totals"]["refused"] == sum(expected.values()), "their sum")  # noqa: B023 - as above


class Sampler:
    """Reads the status as fast as it can, from the parent and from the workers, and notes every counter that went back."""

    def __init__(self, one):
        self._control = str(one.control)
        self._admin = one.addresses("admin")[0]
        self.samples, self.scrapes, self.backwards = 0, 0, []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(ask,)) for ask in (self._parent, self._worker)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, ask):
        last: dict[str, float] = {}
        while not self._over.wait(0.03):
            try:
                found = ask()
            except (AnswerError, ConnectionResetError):  # its worker was killed, perhaps before it read the request
                continue
            for name, value in found.items():
                if value < last.get(name, 0):
                    self.backwards.append(f"{ask.__name__}: {name} from {last[name]} to {value}")
            if missing := {name for name in last if name not in found and not name.startswith("bucket")}:
                self.backwards.append(f"{ask.__name__}: {missing} vanished")
            last = found
            self.samples += 1

    def _parent(self):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(self._control)
            sock.sendall(b'{"v": 1, "command": "status"}\n')
            data = b""
            while not data.endswith(b"\n"):
                data += sock.recv(65536)
        found = json.loads(data)["data"]
        buckets = {f"bucket {bound}": count for bound, count in found["latency"]["buckets"]}
        ends = {f"end {cause}": count for cause, count in found["ends"].items()}
        return {**found["totals"], **ends, "sum": found["latency"]["sum"], **buckets}

    def _worker(self):
        host, _, port = self._admin.rpartition(":")
        page = get((host, int(port)), "/metrics", timeout=20).text
        self.scrapes += 1
        lines = re.findall(r"^(apid_\S*(?:_total|_bucket|_sum|_count)\S*) (\S+)$", page, re.MULTILINE)
        return {name: float(value) for name, value in lines if "drops" not in name}  # a new socket begins at 0


@pytest.fixture
def start(daemon):
    """A daemon with the metrics of the admin listener beside the application `recording`."""

    def _start(**options):
        admin = "[app:metrics]\nuse = egg:apid#metrics\n[composite:admin]\nuse = egg:apid#urlmap\n/metrics = metrics\n"
        sections = {"listener:admin": {"bind": "127.0.0.1:0", "app_name": "admin"}}
        return daemon(paste=RECORDING + admin, listeners="admin", sections=sections, **options).start()

    return _start


def settled(one) -> dict:
    """The document once nothing is in flight and nobody drains."""

    def rest():
        found = one.status()
        calm = all(worker["stage"] == "ready" and not worker["in_flight"] for worker in found["workers"])
        return found if calm else None

    return wait_until(rest, "rest", 30)


@pytest.mark.slow
@pytest.mark.also_without_preload
@pytest.mark.both_engines(slow=True)
def test_exact_and_never_back_over_reloads_scaling_and_an_upgrade(start, tmp_path):
    one = start()
    with Sampler(one) as sampler, Load(one.address, tmp_path / "load", connections=4, pace=0.01, mode="mix") as load:
        one.apidctl("reload")
        one.apidctl("scale", "3")
        one.apidctl("upgrade")
        figures = load.stop()
    assert figures.errors == 0, figures
    found = settled(one)
    assert sampler.backwards == []
    assert sampler.samples > 50
    assert found["totals"]["requests"] == figures.answered + sampler.scrapes
    assert found["totals"]["status_2xx"] == figures.answered + sampler.scrapes
    assert sum(count for _, count in found["latency"]["buckets"]) == figures.answered + sampler.scrapes
    assert found["ends"]["reload"] == 5


@pytest.mark.both_engines(slow=True)
@pytest.mark.slow
def test_exact_and_never_back_over_recycling(start, tmp_path):
    one = start(max_requests=200, max_requests_jitter=50)
    with Sampler(one) as sampler, Load(one.address, tmp_path / "load", connections=8, pace=0.002) as load:
        one.wait_for_log("worker ended: recycle", 30, count=3)
        figures = load.stop()
    assert figures.errors == 0, figures
    found = settled(one)
    assert sampler.backwards == []
    assert found["totals"]["requests"] == figures.answered + sampler.scrapes


@pytest.mark.slow
def test_a_killed_worker_is_folded_and_nothing_goes_back(start, tmp_path):
    one = start()
    one.allow("worker ended: crash:SIGKILL")
    connections, kills = 8, 3
    with Sampler(one) as sampler, Load(one.address, tmp_path / "load", connections=connections, pace=0.002) as load:
        for number in range(kills):
            victim = one.wait_for_workers(2)[0]
            time.sleep(0.2)  # some traffic for it
            os.kill(victim, signal.SIGKILL)
            one.wait_for_workers(2, but=[victim], deadline=20)
            wait_until(lambda: one.status()["ready"] == 2, "both workers", 30)
            wait_until(lambda n=number: one.status()["ends"].get("crash:SIGKILL") == n + 1, "its cause", 30)
        figures = load.stop()
    found = settled(one)
    assert sampler.backwards == []
    # what was in flight at a kill was answered and not counted, or counted and not read: at most one each connection
    assert abs(found["totals"]["requests"] - sampler.scrapes - figures.answered) <= kills * (connections + 1)
