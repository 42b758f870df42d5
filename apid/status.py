"""The status document: what the daemon is doing, for `apidctl status --json` and for `environ["apid.status"]()`. Changes nothing.

It is put together from two sources. The facts are the parent's (phase, generation, listeners, who is who, how the last changes
ended); it publishes them in the bulletin whenever they change, so that a worker answers for the whole daemon without asking.
The numbers are in the scoreboard at this moment. docs/STATUS.md describes each field, and a test holds it to that.

Times in the facts are monotonic seconds, which all processes of a machine share; the document turns them into ages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from apid import scoreboard
from apid.conf.settings import POOL_SIZES
from apid.logformats import escape
from apid.posix import processes
from apid.posix.accept_queue import AcceptQueue
from apid.scoreboard import BUCKETS, Row, Scoreboard, bucket_bounds

ENGINES = tuple(POOL_SIZES)

SCHEMA = 1
"""Version of the document; fields may be added within it."""

TOTALS = {
    "requests": scoreboard.REQUESTS,
    "accepted": scoreboard.ACCEPTED,
    "bytes_in": scoreboard.BYTES_IN,
    "bytes_out": scoreboard.BYTES_OUT,
    "status_1xx": scoreboard.STATUS_1XX,
    "status_2xx": scoreboard.STATUS_2XX,
    "status_3xx": scoreboard.STATUS_3XX,
    "status_4xx": scoreboard.STATUS_4XX,
    "status_5xx": scoreboard.STATUS_5XX,
    "refused": scoreboard.REFUSED,
    "timeouts": scoreboard.TIMEOUTS,
    "cut": scoreboard.CUT,
    "accept_pauses": scoreboard.ACCEPT_PAUSES,
    "handshake_failures": scoreboard.HANDSHAKE_FAILURES,
    "wakeups": scoreboard.WAKEUPS,
    "access_log_lost": scoreboard.ACCESS_LOG_LOST,
}
"""Name in `totals` -> cell."""

_BOUNDS = [bucket_bounds(index)[1] for index in range(BUCKETS)]

Queue = Callable[[str], AcceptQueue | None]
"""From an address, as spelled in the facts, to what waits there; None where that cannot be known."""


def document(
    facts: dict[str, Any], board: Scoreboard, queue: Queue, *, now: float, flights: int = 0, seen_from: int = 0
) -> dict[str, Any]:
    """Put the document together.

    Args:
        facts: the parent's; see apid.parent.report.
        board: the numbers.
        queue: how to look into an accept queue from here.
        now: monotonic seconds.
        flights: how many requests in flight are listed for each worker, the oldest first.
        seen_from: pid of the process that answers.
    """
    rows = [(worker, board.row(worker["row"])) for worker in facts["workers"]]
    counters, histogram = board.totals([row.index for _, row in rows])
    return {
        "schema": SCHEMA,
        "version": facts["version"],
        "pid": facts["pid"],
        "answered_by": seen_from or facts["pid"],
        "line": facts["line"],
        "phase": facts["phase"],
        "degraded": facts["degraded"],
        "outdated": facts["outdated"],
        "uptime": round(now - facts["started"], 3),
        "generation": facts["generation"],
        "wanted": facts["wanted"],
        "ready": facts["ready"],
        "listeners": [_listener(one, queue(one["address"])) for one in facts["listeners"]],
        "listeners_omitted": facts["listeners_omitted"],
        "change": _aged(facts["change"], now, "since"),
        "last_change": _aged(facts["history"][-1], now, "at") if facts["history"] else None,
        "history": [_aged(one, now, "at") for one in facts["history"]],
        "changes": facts["changes"],
        "ends": facts["ends"],
        "totals": {name: counters[cell] for name, cell in TOTALS.items()},
        "refusals": {str(status): counters[cell] for status, cell in scoreboard.REFUSALS.items()},
        "latency": _latency(histogram, counters[scoreboard.LATENCY_SUM_US]),
        "workers": [
            _worker(worker, row, facts["last_end"], now, flights)
            for worker, row in rows
            if row.seat[scoreboard.PID] == worker["pid"]  # else the row was folded since the facts were published
        ],
        "molds": [_mold(mold, now) for mold in facts["molds"]],
    }


def _mold(mold: dict[str, Any], now: float) -> dict[str, Any]:
    return {name: value for name, value in mold.items() if name != "spawned"} | {"age": round(now - mold["spawned"], 3)}


def _listener(listener: dict[str, Any], found: AcceptQueue | None) -> dict[str, Any]:
    queue = None if found is None else {"depth": found.depth, "limit": found.limit, "drops": found.drops}
    return {"name": listener["name"], "address": listener["address"], "queue": queue}


def _aged(event: dict[str, Any] | None, now: float, key: str) -> dict[str, Any] | None:
    """The same with `ago` in the place of a moment."""
    if event is None:
        return None
    kept = {name: value for name, value in event.items() if name != key}
    return {**kept, "ago": round(now - event[key], 3)}


def _latency(histogram: list[int], total_us: int) -> dict[str, Any]:
    """Sum in seconds, and the buckets that are not empty as [upper bound in microseconds, count]."""
    filled = [[_BOUNDS[index], count] for index, count in enumerate(histogram) if count]
    return {"sum": total_us / 1e6, "buckets": filled}


def _worker(
    worker: dict[str, Any], row: Row, last_end: dict[str, str], now: float, most_flights: int
) -> dict[str, Any]:
    cells, now_ns = row.cells, time.monotonic_ns()
    beat = int(cells[scoreboard.BEAT_NS])
    engine = ENGINES[min(int(cells[scoreboard.ENGINE]), len(ENGINES) - 1)]
    listed = [
        {"line": escape(one.line), "age": round(one.age(now_ns), 3), "id": row.request_id(one), "stuck": one.stuck}
        for one in row.flights(max(1, most_flights))
    ]
    return {
        "slot": worker["slot"],
        "pid": worker["pid"],
        "generation": worker["generation"],
        "stage": worker["stage"],
        "stalled": worker["stalled"],
        "cause": worker["cause"],
        "last_end": last_end.get(str(worker["slot"])),
        "uptime": round(now - worker["spawned"], 3),
        "requests": int(cells[scoreboard.REQUESTS]),
        "accepted": int(cells[scoreboard.ACCEPTED]),
        "connections": int(cells[scoreboard.CONNECTIONS]),
        "idle": int(cells[scoreboard.IDLE]),
        "in_flight": int(cells[scoreboard.IN_FLIGHT]),
        "limit": int(cells[scoreboard.POOL_LIMIT]),
        "engine": engine,
        "threads": int(cells[scoreboard.THREADS]) if engine == "threads" else None,
        "stuck": int(cells[scoreboard.STUCK]),
        "gil_wait": round(cells[scoreboard.GIL_WAIT_NS] / 1e9, 6) if engine == "threads" else None,
        "gil": not cells[scoreboard.GIL_OFF],
        "beat_age": round(max(0, now_ns - beat) / 1e9, 3) if beat else None,
        "hub_lag": round(cells[scoreboard.HUB_LAG_NS] / 1e9, 6),
        "rss": processes.resident_bytes(worker["pid"]),
        "private": int(cells[scoreboard.PRIVATE]) or None,
        "proportional": int(cells[scoreboard.PROPORTIONAL]) or None,
        "latency": _latency(row.histogram.tolist(), int(cells[scoreboard.LATENCY_SUM_US])),
        "oldest": listed[0] if listed else None,
        "flights": listed[:most_flights],
    }
