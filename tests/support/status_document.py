"""A status document as docs/STATUS.md has it, for what is made of one; the real thing is compared with that file elsewhere."""

from __future__ import annotations

from typing import Any


def worker(slot: int, generation: int = 7, **changed: Any) -> dict[str, Any]:
    """One worker, well and with little to do."""
    return {
        "slot": slot,
        "pid": 4700 + 10 * generation + slot,
        "generation": generation,
        "stage": "ready",
        "stalled": False,
        "cause": None,
        "last_end": "reload",
        "uptime": 3723.5,
        "requests": 1000 * (slot + 1),
        "accepted": 50,
        "connections": 12,
        "idle": 10,
        "in_flight": 2,
        "limit": 1000,
        "engine": "eventlet",
        "threads": None,
        "stuck": 0,
        "gil_wait": None,
        "gil": True,
        "beat_age": 0.25,
        "hub_lag": 0.0004,
        "rss": 52_428_800,
        "private": 10_485_760,
        "proportional": 20_971_520,
        "latency": {"sum": 2.5, "buckets": [[1024, 900], [2048, 90], [65536, 10]]},
        "oldest": {"line": "GET /v1/items HTTP/1.1", "age": 1.25, "id": "req-1", "stuck": False},
        "flights": [
            {"line": "GET /v1/items HTTP/1.1", "age": 1.25, "id": f"req-{slot}-1", "stuck": False},
            {"line": "POST /v1/items HTTP/1.1", "age": 0.5, "id": f"req-{slot}-2", "stuck": False},
        ],
        **changed,
    }


def threads(slot: int, stuck: int = 0, **changed: Any) -> dict[str, Any]:
    """A worker of engine = threads; its oldest requests are stuck, as many as it is told."""
    one = worker(slot, limit=32, engine="threads", threads=5, gil_wait=0.00012, stuck=stuck)
    flights = [{**flight, "stuck": number < stuck} for number, flight in enumerate(one["flights"])]
    return {**one, "flights": flights, "oldest": flights[0], **changed}


def mold(generation: int = 7) -> dict[str, Any]:
    """A mold that has forked workers."""
    return {
        "pid": 4690,
        "generation": generation,
        "age": 3725.5,
        "stage": "ready",
        "load": 1.25,
        "fork": 0.012,
        "private": 5_242_880,
        "proportional": 15_728_640,
    }


def document(workers: list[dict[str, Any]] | None = None, **changed: Any) -> dict[str, Any]:
    """The whole; two workers unless told otherwise."""
    last = {
        "kind": "reload",
        "ok": True,
        "text": "generation 7 is ready (2 workers)",
        "generation": 7,
        "seconds": 1.4,
        "ago": 60.0,
        "deaths": 0,
    }
    return {
        "schema": 1,
        "version": "0.1.0",
        "pid": 4700,
        "answered_by": 4700,
        "line": "running, generation 7: 2 of 2 workers ready",
        "phase": "running",
        "degraded": False,
        "outdated": None,
        "uptime": 90_061.0,
        "generation": 7,
        "wanted": 2,
        "ready": 2,
        "listeners": [
            {"name": "main", "address": "127.0.0.1:8080", "queue": {"depth": 3, "limit": 4096, "drops": 1}},
            {"name": "local", "address": "unix:/run/apid/api", "queue": None},
        ],
        "change": None,
        "last_change": last,
        "history": [last],
        "changes": {"reload": {"ok": 6, "failed": 1}, "upgrade": {"ok": 0, "failed": 0}},
        "ends": {"reload": 12, "hung": 1, "crash:SIGKILL": 2},
        "totals": {
            "requests": 3000,
            "accepted": 100,
            "bytes_in": 300_000,
            "bytes_out": 900_000,
            "status_1xx": 0,
            "status_2xx": 2900,
            "status_3xx": 10,
            "status_4xx": 80,
            "status_5xx": 10,
            "refused": 5,
            "timeouts": 4,
            "cut": 0,
            "accept_pauses": 1,
            "handshake_failures": 0,
            "wakeups": 110,
            "access_log_lost": 0,
        },
        "refusals": {"400": 2, "431": 1},
        "latency": {"sum": 7.5, "buckets": [[1024, 2700], [2048, 270], [65536, 29], [67_108_864, 1]]},
        "workers": [worker(0), worker(1)] if workers is None else workers,
        "molds": [],
        **changed,
    }
