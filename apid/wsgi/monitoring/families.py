"""The status document as Prometheus metric families. docs/METRICS.md lists them, and a test holds it to this file.

Names and units follow https://prometheus.io/docs/practices/naming/: base units, `_total` for counters, nothing that another
metric already says. A series belongs to a worker's slot and generation, not to its pid: pids would make series without end.
Where two workers share both for a moment (a recycled one and its successor) what can be added is added, and of ages the
greatest is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Document = dict[str, Any]

BOUNDS = tuple(
    bound for exponent in range(7, 26) for bound in (1 << exponent, 3 << (exponent - 1))
)  # 128 µs to 50 s, two an octave: each is a bound of the scoreboard's buckets, so that counts are exact
"""Upper bounds of the exposed buckets, in microseconds."""

_TOTALS = (
    ("apid_http_requests", "requests", "Requests that were handed to an application and are over."),
    ("apid_http_connections", "accepted", "Connections accepted."),
    ("apid_http_received_bytes", "bytes_in", "Octets read from clients, heads and contents."),
    ("apid_http_sent_bytes", "bytes_out", "Octets sent to clients, heads and contents."),
    ("apid_http_timeouts", "timeouts", "Connections and requests ended by a deadline."),
    ("apid_http_cut_requests", "cut", "Requests that a drain's deadline or a stop now cut."),
    ("apid_accept_pauses", "accept_pauses", "Pauses of accepting because descriptors or memory had run out."),
    ("apid_accept_wakeups", "wakeups", "Wake-ups of workers for a listening socket."),
    ("apid_access_log_lost_lines", "access_log_lost", "Lines of the access log that could not be written."),
    ("apid_tls_handshake_failures", "handshake_failures", "TLS handshakes that failed."),
)

_Reading = Callable[[Document], float | None]
_WORKER: tuple[tuple[str, str, _Reading, Callable[[Iterable[float]], float]], ...] = (
    ("apid_worker_connections", "Open connections.", lambda w: w["connections"], sum),
    ("apid_worker_idle_connections", "Open connections that wait for a request.", lambda w: w["idle"], sum),
    ("apid_worker_requests_in_flight", "Requests in work.", lambda w: w["in_flight"], sum),
    ("apid_worker_pool_limit", "Requests that may be in work at once (pool_size).", lambda w: w["limit"], sum),
    ("apid_worker_resident_memory_bytes", "Resident set size.", lambda w: w["rss"], sum),
    ("apid_worker_private_memory_bytes", "Memory that no other process has (USS).", lambda w: w["private"], sum),
    (
        "apid_worker_proportional_memory_bytes",
        "Private memory and its share of what others have too (PSS).",
        lambda w: w["proportional"],
        sum,
    ),
    ("apid_worker_uptime_seconds", "Age of the worker.", lambda w: w["uptime"], max),
    ("apid_worker_stuck_requests", "Requests that hold a slot and could not be ended.", lambda w: w["stuck"], sum),
    ("apid_worker_threads", "Native threads of engine = threads.", lambda w: w["threads"], sum),
    ("apid_worker_gil_wait_seconds", "How long a thread waits for the GIL.", lambda w: w["gil_wait"], max),
    ("apid_worker_gil_enabled", "1 where the interpreter runs with the GIL.", lambda w: float(w["gil"]), max),
    ("apid_worker_hub_lag_seconds", "How late the last beat of the loop was.", lambda w: w["hub_lag"], max),
    ("apid_worker_beat_age_seconds", "Time since the last beat of the loop.", lambda w: w["beat_age"] or 0.0, max),
    (
        "apid_worker_oldest_request_seconds",
        "Age of the oldest request in work; 0 without one.",
        lambda w: w["oldest"]["age"] if w["oldest"] else 0.0,
        max,
    ),
)

_MOLD = (
    ("apid_mold_uptime_seconds", "age", "Age of the mold."),
    ("apid_mold_load_seconds", "load", "How long it took to load the application."),
    ("apid_mold_fork_seconds", "fork", "How long the last worker took from the order to its birth."),
    ("apid_mold_private_memory_bytes", "private", "Memory that no other process has (USS)."),
    (
        "apid_mold_proportional_memory_bytes",
        "proportional",
        "Private memory and its share of what others have too (PSS).",
    ),
)

_STAGES = ("booting", "ready", "draining", "killed")
_ENGINES = ("eventlet", "threads")


class Families(Collector):
    """One document, to be collected once."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def collect(self) -> Iterator[Metric]:
        """Yield every family, in the order of docs/METRICS.md."""
        yield from _daemon(self._document)
        yield from _changes(self._document)
        yield from _workers(self._document)
        yield from _molds(self._document)
        yield from _traffic(self._document)
        yield from _listeners(self._document)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _by(
    make: Callable[..., Any],
    name: str,
    text: str,
    labels: Sequence[str],
    samples: Iterable[tuple[Sequence[str], float]],
) -> Metric:
    family: Metric = make(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)  # type: ignore[attr-defined]  # the families' own, not their base class's
    return family


def _daemon(document: Document) -> Iterator[Metric]:
    build = [((document["version"],), 1.0)]
    yield _by(GaugeMetricFamily, "apid_build_info", "Version of apid; the value is 1.", ["version"], build)
    yield _gauge("apid_uptime_seconds", "Age of the daemon, upgrades included.", document["uptime"])
    phase = [((document["phase"],), 1.0)]
    yield _by(GaugeMetricFamily, "apid_phase", "The parent's phase; the value is 1.", ["phase"], phase)
    yield _gauge("apid_degraded", "1 while a slot keeps failing.", float(document["degraded"]))
    yield _gauge("apid_generation", "The present generation.", document["generation"])


def _changes(document: Document) -> Iterator[Metric]:
    counts = [
        ((kind, verdict), float(count))
        for kind, verdicts in document["changes"].items()
        for verdict, count in verdicts.items()
    ]
    text = "Reloads and upgrades, by kind and verdict."
    yield _by(CounterMetricFamily, "apid_changes", text, ["kind", "verdict"], counts)
    last = document["last_change"]
    yield _gauge(
        "apid_change_in_progress", "1 while a reload or an upgrade is under way.", float(bool(document["change"]))
    )
    if last is not None:
        ended = round(time.time() - last["ago"], 1)
        yield _gauge("apid_last_change_successful", "Whether the last change was.", float(last["ok"]))
        yield _gauge("apid_last_change_timestamp_seconds", "When the last change ended.", ended)
        yield _gauge("apid_last_change_duration_seconds", "How long the last change took.", last["seconds"])


def _workers(document: Document) -> Iterator[Metric]:
    workers = document["workers"]
    yield _gauge("apid_workers_wanted", "Workers of the present generation that there should be.", document["wanted"])
    yield _gauge("apid_workers_ready", "Workers of the present generation that are ready.", document["ready"])
    stages = [((stage,), float(sum(worker["stage"] == stage for worker in workers))) for stage in _STAGES]
    yield _by(GaugeMetricFamily, "apid_workers", "Workers of all generations, by stage.", ["stage"], stages)
    engines = [((engine,), float(sum(worker["engine"] == engine for worker in workers))) for engine in _ENGINES]
    yield _by(GaugeMetricFamily, "apid_engine_workers", "Workers of all generations, by engine.", ["engine"], engines)
    ends = [((cause,), float(count)) for cause, count in sorted(document["ends"].items())]
    yield _by(CounterMetricFamily, "apid_worker_ends", "Workers that ended, by cause.", ["cause"], ends)
    seats: dict[tuple[str, str], list[Document]] = {}
    for worker in workers:
        seats.setdefault((str(worker["slot"]), str(worker["generation"])), []).append(worker)
    for name, text, read, join in _WORKER:
        values = {seat: [v for worker in sitting if (v := read(worker)) is not None] for seat, sitting in seats.items()}
        samples = [(seat, float(join(found))) for seat, found in values.items() if found]
        yield _by(GaugeMetricFamily, name, text, ["slot", "generation"], samples)


def _molds(document: Document) -> Iterator[Metric]:
    molds = {str(mold["generation"]): mold for mold in document["molds"]}
    for name, key, text in _MOLD:
        samples = [((generation,), float(mold[key])) for generation, mold in molds.items() if mold[key] is not None]
        yield _by(GaugeMetricFamily, name, text, ["generation"], samples)


def _traffic(document: Document) -> Iterator[Metric]:
    totals = document["totals"]
    for name, key, text in _TOTALS:
        yield CounterMetricFamily(name, text, value=totals[key])
    refusals = [((code,), float(count)) for code, count in document["refusals"].items()]
    text = "Answers that apid made itself: refused, late and failed requests, by status code."
    yield _by(CounterMetricFamily, "apid_http_refused_requests", text, ["code"], refusals)
    classes = [((f"{digit}xx",), float(totals[f"status_{digit}xx"])) for digit in range(1, 6)]
    yield _by(CounterMetricFamily, "apid_http_responses", "Answers by class of status code.", ["class"], classes)
    text = "From the head of a request to the end of its answer."
    family = HistogramMetricFamily("apid_http_request_duration_seconds", text)
    family.add_metric([], buckets(document["latency"]["buckets"]), sum_value=document["latency"]["sum"])
    yield family


def _listeners(document: Document) -> Iterator[Metric]:
    known = [one for one in document["listeners"] if one["queue"] is not None]
    for name, key, text, make in (
        ("apid_listener_queue", "depth", "Connections that wait for an accept.", GaugeMetricFamily),
        ("apid_listener_queue_limit", "limit", "Connections that may wait for an accept.", GaugeMetricFamily),
        ("apid_listener_drops", "drops", "Connections lost because the queue was full.", CounterMetricFamily),
    ):
        samples = [((one["name"], one["address"]), float(one["queue"][key])) for one in known]
        yield _by(make, name, text, ["listener", "address"], samples)


def buckets(found: Iterable[Sequence[int]]) -> list[tuple[str, float]]:
    """Make cumulative buckets by BOUNDS, in seconds, out of the document's [upper bound in microseconds, count]."""
    counts = sorted((bound, count) for bound, count in found)
    cumulative: list[tuple[str, float]] = []
    total, at = 0, 0
    for bound in BOUNDS:
        while at < len(counts) and counts[at][0] <= bound:
            total, at = total + counts[at][1], at + 1
        cumulative.append((repr(bound / 1e6), total))
    return [*cumulative, ("+Inf", total + sum(count for _, count in counts[at:]))]
