"""What a generation costs that is loaded once: memory, processor time of a reload, and how soon a killed worker is replaced.

    python -m tests.bench.bench_preload [WORKERS]

The default API, with `preload` off and on in one run. Memory is the proportional set size of all processes of the daemon.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time

from tests.support import processes
from tests.support.client import get
from tests.support.daemon import Daemon
from tests.support.processes import wait_until

REQUESTS = 300
ROUNDS = 5
_TICK = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> set[int]:
    return {pid} | processes.children(pid)


def proportional(pid: int) -> float:
    """MiB of the daemon's processes."""
    found = 0
    for one in family(pid):
        with contextlib.suppress(OSError):  # it has just ended
            text = pathlib.Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii")
            found += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return found / 1024


def cpu(pid: int) -> float:
    """Seconds of the parent, of its children, and of those that it has waited for."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
    own = sum(map(int, fields[11:15])) / _TICK
    for child in processes.children(pid):
        with contextlib.suppress(OSError):
            own += processes.cpu_seconds(child)
    return own


def measure(preload: str, workers: int) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory() as directory,
        Daemon(pathlib.Path(directory), workers=workers, preload=preload) as one,
    ):
        get(one.address)
        found = {"PSS idle, MiB": proportional(one.pid)}
        for _ in range(REQUESTS):
            get(one.address, "/v1/animals")
        found["PSS after 300 requests, MiB"] = proportional(one.pid)
        seconds, peaks = [], []
        for _ in range(ROUNDS):
            before, generation = cpu(one.pid), one.status()["generation"]
            one.signal(signal.SIGHUP)
            peak = 0.0
            while one.status()["generation"] == generation:
                peak = max(peak, proportional(one.pid))
                time.sleep(0.02)
            wait_until(lambda: len(one.worker_pids()) == workers, "the old workers have ended")
            seconds.append(cpu(one.pid) - before)
            peaks.append(peak)
        found["reload, s of processor time"] = statistics.median(seconds)
        found["peak in a reload, MiB"] = statistics.median(peaks)
        times = []
        for _ in range(ROUNDS):
            victim = one.worker_pids()[0]
            began = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda gone=victim: replaced(one, workers, gone), "it is replaced", 10, 0.001)
            times.append(time.monotonic() - began)
            one.apidctl("reload")  # forgets the back-off
        found["killed worker replaced after, s"] = statistics.median(times)
        return found


def replaced(one: Daemon, workers: int, gone: int) -> bool:
    return one.status()["ready"] == workers and gone not in one.worker_pids()


def main() -> None:
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    off, on = measure("off", workers), measure("on", workers)
    print(f"{'default API, ' + str(workers) + ' workers':36} {'off':>9} {'on':>9} {'on/off':>7}")
    for name, value in off.items():
        print(f"{name:36} {value:9.3f} {on[name]:9.3f} {on[name] / value:7.2f}")


if __name__ == "__main__":
    main()
