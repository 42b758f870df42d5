"""The status document: parent and workers say the same, and docs/STATUS.md describes exactly what they say."""

from __future__ import annotations

import json
import pathlib
import re
import signal
import socket

import pytest

from tests.support.client import get
from tests.support.processes import wait_until

DOC = pathlib.Path(__file__).resolve().parents[2] / "docs" / "STATUS.md"
PASTE = "[app:main]\npaste.app_factory = tests.support.apps.status:factory\n"


def paths(value: object, prefix: str = "") -> set[str]:
    """Every field of a document by its dotted path; of null, the path itself."""
    if isinstance(value, dict):
        found = {prefix} if prefix else set()
        return found.union(*(paths(one, f"{prefix}.{key}" if prefix else key) for key, one in value.items()))
    if isinstance(value, list):
        return {f"{prefix}[]"}.union(*(paths(one, f"{prefix}[]") for one in value))
    return {prefix}


def described() -> set[str]:
    rows = [line for line in DOC.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


@pytest.mark.both_engines
def test_every_field_is_described_and_every_description_is_of_a_field(daemon):
    one = daemon(paste=PASTE, preload="on").start()
    one.apidctl("reload")
    one.wait_for_log("worker ended: reload", count=2)
    told = json.loads(get(one.address, "/?flights=3").body)
    asked = json.loads(one.apidctl("status", "--json").stdout)
    assert told["generation"] == 2
    assert told["changes"]["reload"] == {"ok": 1, "failed": 0}
    assert told["ends"]["reload"] == 2
    assert told["last_change"]["ok"] is True
    assert [worker["last_end"] for worker in told["workers"]] == ["reload", "reload"]
    names = described()
    # inner nodes of the tree and buckets are described by what is in them; a change under way cannot be caught in the act here
    inner = {name for name in names if any(other.startswith((f"{name}.", f"{name}[")) for other in names)}
    fields = {path for path in paths(told) | paths(asked) if not path.startswith(("latency.buckets[]", "change."))}
    fields = {path for path in fields if "buckets[][]" not in path}
    leaves = {path for path in fields if not any(other.startswith((f"{path}.", f"{path}[")) for other in fields)}
    assert leaves - names == set()
    missing = names - inner - fields - {"latency.buckets[]"}
    assert {name for name in missing if not name.startswith("change.")} == set()


def test_a_worker_answers_for_the_whole_daemon_as_the_parent_does(daemon):
    one = daemon(paste=PASTE, workers=3).start()
    told = json.loads(get(one.address).body)
    asked = json.loads(one.apidctl("status", "--json").stdout)
    assert told["answered_by"] in one.worker_pids()
    assert asked["answered_by"] == told["pid"] == one.pid
    assert {worker["pid"] for worker in told["workers"]} == set(one.worker_pids())
    moving = {"answered_by", "uptime", "totals", "latency", "workers", "molds"}
    assert [mold["pid"] for mold in told["molds"]] == [mold["pid"] for mold in asked["molds"]] == one.mold_pids()
    assert {k: v for k, v in told.items() if k not in moving} == {k: v for k, v in asked.items() if k not in moving}


@pytest.mark.both_engines
def test_a_daemon_without_workers_answers_for_itself(daemon):
    one = daemon(paste=PASTE, workers=0, control_socket=None)
    one.launch().wait_for_log("serving inline")
    get(one.address)

    def counted():  # by the loop, which may be after the client has got its answer
        told = json.loads(get(one.address, "/?flights=1").body)
        return told if told["totals"]["requests"] else None

    told = wait_until(counted, "the first request is counted")
    (worker,) = told["workers"]
    assert worker["pid"] == told["pid"] == one.pid
    assert [flight["line"] for flight in worker["flights"]] == ["GET /?flights=1 HTTP/1.1"]


def test_what_waits_in_the_kernel_is_seen(daemon):
    """Quiesced, nobody accepts: connections queue, and the parent says how many, and of how many there is room."""
    one = daemon(paste=PASTE, backlog=5).start()
    one.signal(signal.SIGWINCH)
    one.wait_for_workers(0)
    socks = [socket.create_connection(one.address) for _ in range(3)]
    try:
        (listener,) = json.loads(one.apidctl("status", "--json").stdout)["listeners"]
        assert listener["queue"]["depth"] == 3
        assert listener["queue"]["limit"] == 5
        assert listener["queue"]["drops"] == 0
        socks += [socket.create_connection(one.address) for _ in range(3)]
        late = socket.socket()
        socks.append(late)
        late.setblocking(False)
        late.connect_ex(one.address)

        def drops() -> int:
            document = json.loads(one.apidctl("status", "--json").stdout)
            return int(document["listeners"][0]["queue"]["drops"])

        wait_until(lambda: drops() > 0, "a drop", 30)
    finally:
        for sock in socks:
            sock.close()


def test_workers_answer_while_the_parent_is_stopped(daemon):
    one = daemon(paste=PASTE).start()
    # The log says so first; the parent publishes it at the end of the same turn.
    wait_until(lambda: json.loads(get(one.address).body)["phase"] == "running", "the phase to be published")
    one.signal(signal.SIGSTOP)
    try:
        told = json.loads(get(one.address).body)
    finally:
        one.signal(signal.SIGCONT)
    assert told["phase"] == "running"
    assert {worker["pid"] for worker in told["workers"]} == set(one.worker_pids())
