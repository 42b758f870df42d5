"""What clients feel of a reload: the longest wait of any of them during reloads, beside the p99 of the same load without one.

    .venv/bin/python -m tests.bench.bench_reload [ROUNDS]

Two workers, 16 connections, half of them keep-alive, the requests of each 3 ms apart; rounds of ten seconds each way alternate. A
reload boots a whole generation beside the one that serves, so on a small machine the waits are those for a core.
"""

from __future__ import annotations

import pathlib
import statistics
import sys
import tempfile
import time

from tests.support.apps import pipeline
from tests.support.daemon import Daemon
from tests.support.load import Figures, Load

SECONDS = 10
RELOADS = 5


def measure(one: Daemon, directory: pathlib.Path, reloads: int) -> Figures:
    """The figures of one load, with so many reloads spread over it."""
    executed = directory.parent / "executed"
    with Load(one.address, directory, executed=executed, mode="mix", connections=16, pace=0.003) as running:
        for _ in range(max(reloads, 1)):
            if reloads:
                done = one.ask("reload")
                assert done["ok"], done
            time.sleep(SECONDS / max(reloads, 1))
        figures = running.stop()
    assert figures.errors == 0, figures
    return figures


def main() -> None:
    """Print a line a round, and the median ratio."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    ratios = []
    with tempfile.TemporaryDirectory(prefix="apid-bench-") as name:
        top = pathlib.Path(name)
        with Daemon(top, paste=pipeline("recording", file=top / "executed", delay=0), workers=2) as one:
            for number in range(rounds):
                calm = measure(one, top / f"calm{number}", 0)
                busy = measure(one, top / f"busy{number}", RELOADS)
                ratios.append(busy.stall / calm.p99)
                print(
                    f"without: p99 {calm.p99 * 1e3:.1f} ms, longest {calm.stall * 1e3:.1f} ms; over {RELOADS} reloads: "
                    f"p99 {busy.p99 * 1e3:.1f} ms, longest {busy.stall * 1e3:.1f} ms, "
                    f"{busy.answered} answers, {busy.errors} errors; longest : p99 without = {ratios[-1]:.1f}"
                )
    print(f"median of the ratios: {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
