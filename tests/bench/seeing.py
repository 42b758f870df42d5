"""What looking costs: the status document and a scrape, by number of workers. `python -m tests.bench.seeing`

Each worker has a full row: 120 buckets in use, 50 requests in flight. Figures are milliseconds of this process's own time (median
and worst of the rounds); the promise O2 is 5 ms for a status of 32 workers.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections.abc import Callable

from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics

from apid import scoreboard, status
from apid.scoreboard import Scoreboard
from apid.wsgi.monitoring.families import Families
from tests.support.status_document import document, worker

ROUNDS = 100


def _facts(board: Scoreboard, workers: int) -> dict[str, object]:
    chance = random.Random(1)
    rows = []
    for slot in range(workers):
        row = board.row(slot)
        row.clear()
        row.take(os.getpid(), slot, 1)
        row.cells[scoreboard.BEAT_NS] = time.monotonic_ns()
        for index in chance.sample(range(scoreboard.BUCKETS), 120):
            row.histogram[index] = chance.randrange(10**6)
        for number in range(50):
            row.depart(b"GET /v1/items/%d HTTP/1.1" % number, number, time.monotonic_ns())
        rows.append({**worker(slot, pid=os.getpid()), "row": slot, "spawned": 0.0})
    return {**document(), "workers": rows, "started": 0.0, "history": [], "last_end": {}}


def _milliseconds(call: Callable[[], object]) -> str:
    times = []
    for _ in range(ROUNDS):
        began = time.process_time_ns()
        call()
        times.append((time.process_time_ns() - began) / 1e6)
    return f"{statistics.median(times):6.2f} {max(times):6.2f}"


def main() -> None:
    """Print the table."""
    print("workers   document        as JSON         metrics, text   OpenMetrics     (median, worst; ms)")
    for workers in (1, 4, 8, 32):
        board = Scoreboard.create()
        facts = _facts(board, workers)

        def read(board: Scoreboard = board, facts: dict[str, object] = facts) -> dict[str, object]:
            return status.document(facts, board, lambda _: None, now=time.monotonic())

        calls: list[Callable[[], object]] = [
            read,
            lambda: json.dumps(read()),
            lambda: exposition.generate_latest(Families(read())),
            lambda: openmetrics.generate_latest(Families(read())),
        ]
        print(f"{workers:7}  " + "   ".join(_milliseconds(call) for call in calls))
        for fd in board.fds:
            os.close(fd)


if __name__ == "__main__":
    main()
