"""What stands above the workers: the daemon, its traffic, its listeners, its last change; as lines of (text, tone)."""

from __future__ import annotations

from typing import Any

from apid.cli import figures
from apid.cli.columns import Tone
from apid.cli.sample import Sample

Line = list[tuple[str, Tone]]


def lines(sample: Sample) -> list[Line]:
    """The whole, the most important first."""
    return [
        _daemon(sample.now),
        _traffic(sample),
        *_engine(sample.now),
        *_molds(sample.now),
        *_listeners(sample.now),
        *_change(sample.now),
    ]


def _daemon(now: dict[str, Any]) -> Line:
    ill = now["degraded"] or any(worker["stalled"] for worker in now["workers"])
    tone: Tone = "bad" if ill else "good" if now["phase"] == "running" else "warn"
    head = f"apid {now['version']}"
    return [
        (head, "head"),
        (f"  pid {now['pid']}  up {figures.duration(now['uptime'])}  ", "plain"),
        (now["line"], tone),
    ]


def _traffic(sample: Sample) -> Line:
    def total(key: str) -> int:
        return sum(worker[key] for worker in sample.now["workers"])

    traffic = sample.traffic
    since = f"in {figures.duration(sample.seconds)}" if sample.seconds else "since the start"
    errors: Tone = "bad" if sample.errors else "quiet"
    return [
        (f"{figures.count(traffic.rate)} req/s  ", "plain"),
        (f"p50 {figures.duration(traffic.p50)}  p99 {figures.duration(traffic.p99)}  ", "plain"),
        (f"5xx {figures.count(sample.errors)}/s  ", errors),
        (f"conns {figures.count(total('connections'))}  busy {total('in_flight')}/{total('limit')}  ", "plain"),
        (f"({since})", "quiet"),
    ]


def _engine(now: dict[str, Any]) -> list[Line]:
    """What runs requests: both engines are there while a reload goes from one to the other."""
    workers = now["workers"]
    if not workers:
        return []
    line: Line = [("engine ", "quiet"), (", ".join(sorted({worker["engine"] for worker in workers})), "plain")]
    native = [worker for worker in workers if worker["engine"] == "threads"]
    if native:
        wait = max(worker["gil_wait"] for worker in native)
        line.append((f"  native threads {sum(worker['threads'] for worker in native)}", "plain"))
        line.append(
            (
                f"  GIL wait {figures.duration(wait)}" if any(worker["gil"] for worker in native) else "  GIL off",
                "plain",
            )
        )
    stuck = sum(worker["stuck"] for worker in workers)
    if stuck:
        line.append((f"  {stuck} {'slot' if stuck == 1 else 'slots'} stuck", "bad"))
    return [line]


def _molds(now: dict[str, Any]) -> list[Line]:
    """What forks workers: two while a reload goes from one generation to the next."""
    found: list[Line] = []
    for one in now["molds"]:
        line: Line = [("mold ", "quiet"), (f"pid {one['pid']} of generation {one['generation']}: ", "plain")]
        if one["stage"] == "loading":
            line.append((f"loading for {figures.duration(one['age'])}", "warn"))
        else:
            line.append(
                (f"loaded in {figures.duration(one['load'])}, forks in {figures.duration(one['fork'])}", "plain")
            )
        if one["private"] is not None:
            line.append((f", USS {figures.size(one['private'])}", "plain"))
        found.append(line)
    return found


def _listeners(now: dict[str, Any]) -> list[Line]:
    found: list[Line] = []
    for one in now["listeners"]:
        line: Line = [("listening on ", "quiet"), (one["address"], "plain"), (f" ({one['name']})", "quiet")]
        queue = one["queue"]
        if queue is not None:
            full: Tone = "bad" if queue["depth"] > queue["limit"] / 2 else "plain"
            line += [("  queue ", "quiet"), (f"{queue['depth']}/{queue['limit']}", full)]
            line += [("  dropped ", "quiet"), (str(queue["drops"]), "warn" if queue["drops"] else "plain")]
        found.append(line)
    return found


def _change(now: dict[str, Any]) -> list[Line]:
    found: list[Line] = []
    change, last = now["change"], now["last_change"]
    if change is not None:
        text = f"{change['kind']} to generation {change['generation']}: {change['step']} for {figures.duration(change['ago'])}"
        found.append([(text, "warn")])
    if last is not None:
        verdict: tuple[str, Tone] = ("ok", "good") if last["ok"] else ("FAILED", "bad")
        when = f" {figures.duration(last['ago'])} ago: {' '.join(last['text'].split())}"
        found.append([(f"last {last['kind']} ", "quiet"), verdict, (when, "plain")])
    return found
