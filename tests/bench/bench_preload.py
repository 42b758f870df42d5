"""What a generation costs that is loaded once: memory, processor time of a reload, and how soon a killed worker is replaced.

    python -m tests.bench.bench_preload [--keystone] [WORKERS]

In one run `preload` off and on; with --keystone Keystone, in an environment of its own, instead of the default API, and beside
it gunicorn with the same application, without and with its --preload. Memory is the proportional set size of all processes. A
load is the processor time of the process that has loaded the application: a worker that has just begun to serve, or the mold.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from tests.bench.measure import free_port
from tests.support import keystone, processes
from tests.support.client import Address, get
from tests.support.daemon import Daemon
from tests.support.processes import wait_until

REQUESTS = 300
ROUNDS = 5
_TICK = os.sysconf("SC_CLK_TCK")

Requests = dict[str, Callable[[Address], None]]
"""By name what is asked, one after the other."""
Figures = dict[str, float]


def family(pid: int) -> set[int]:
    """A process and all that descend from it."""
    return {pid} | {one for child in processes.children(pid) for one in family(child)}


def proportional(pid: int) -> float:
    """MiB of a server's processes."""
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


def memory(pid: int, address: Address, requests: Requests) -> Figures:
    """At rest, and after requests."""
    get(address)
    found = {"PSS idle, MiB": proportional(pid)}
    for name, ask in requests.items():
        ask(address)
        found[f"PSS after {REQUESTS} {name}, MiB"] = proportional(pid)
    return found


def measure(one: Daemon, workers: int, requests: Requests) -> Figures:
    """The figures of a daemon."""
    if one.options["preload"] == "off":
        load = statistics.median(map(processes.cpu_seconds, one.worker_pids()))
    else:
        load = statistics.median(map(processes.cpu_seconds, one.mold_pids()))
    found = {"a load, s of processor time": load} | memory(one.pid, one.address, requests)
    seconds, peaks = [], []
    for _ in range(ROUNDS):
        before, generation, steady, peak = cpu(one.pid), one.status()["generation"], proportional(one.pid), 0.0
        one.signal(signal.SIGHUP)
        while one.status()["generation"] == generation or len(one.worker_pids()) != workers:
            peak = max(peak, proportional(one.pid))
            time.sleep(0.02)
        seconds.append(cpu(one.pid) - before)
        peaks.append(peak / steady)
        for ask in requests.values():
            ask(one.address)
    found["reload, s of processor time"] = statistics.median(seconds)
    found["reload, loads"] = statistics.median(seconds) / load
    found["peak in a reload : before it"] = statistics.median(peaks)
    times = []
    for _ in range(ROUNDS):
        victim = one.worker_pids()[0]
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda gone=victim: replaced(one, workers, gone), "it is replaced", 60, 0.001)
        times.append(time.monotonic() - began)
        one.apidctl("reload")  # forgets the back-off
    found["killed worker replaced after, s"] = statistics.median(times)
    return found


def replaced(one: Daemon, workers: int, gone: int) -> bool:
    """Whether as many workers serve as before."""
    there = one.worker_pids()
    return gone not in there and len(there) == workers and one.status()["ready"] == workers


# -- the default API


def asking(paths: Sequence[str], headers: dict[str, str] | None = None) -> Callable[[Address], None]:
    """Return a function that sends REQUESTS requests for these paths in turn."""

    def ask(address: Address) -> None:
        for number in range(REQUESTS):
            answer = get(address, paths[number % len(paths)], headers=headers)
            assert answer.status in (200, 300), answer.text

    return ask


def default_api(preload: str, workers: int) -> Figures:
    with (
        tempfile.TemporaryDirectory() as name,
        Daemon(pathlib.Path(name), workers=workers, preload=preload) as one,
    ):
        return measure(one, workers, {"requests": asking(["/v1/animals"])})


# -- Keystone


GUNICORN = """
import sys
sys.argv = ["keystone"]  # which it parses
import keystone_app
application = keystone_app.factory({})
"""


@contextlib.contextmanager
def gunicorn(one: keystone.Keystone, workers: int, *more: str) -> Iterator[tuple[int, Address]]:
    """The same Keystone behind gunicorn: its pid and address."""
    address = ("127.0.0.1", free_port())
    words = [
        str(one.venv / "gunicorn"),
        "-w",
        str(workers),
        "-b",
        f"127.0.0.1:{address[1]}",
        "--no-control-socket",
        *more,
    ]
    (one.directory / "keystone_gunicorn.py").write_text(GUNICORN)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(one.directory), **one.environment}
    process = subprocess.Popen(
        [*words, "keystone_gunicorn:application"], env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until(lambda: answers(address), "gunicorn answers", 60)
        wait_until(lambda: len(processes.children(process.pid)) >= workers, "its workers are there", 60)
        time.sleep(3)  # they load, and it does not say when they have
        yield process.pid, address
    finally:
        process.terminate()
        process.wait(30)


def answers(address: Address) -> bool:
    with contextlib.suppress(OSError):
        return get(address, "/v3").status == 200
    return False


def with_keystone(workers: int) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    venv = keystone.environment()
    for preload in ("off", "on"):
        with tempfile.TemporaryDirectory() as name:
            made = keystone.Keystone(pathlib.Path(name), venv, workers=workers, preload=preload)
            token = made.token()
            headers = {"X-Auth-Token": token, "X-Subject-Token": token}
            requests = {
                "GET /v3": asking(["/v3"]),
                "with a token": asking(["/v3/auth/tokens", "/v3/users", "/v3/projects"], headers),
            }
            try:
                made.daemon.apidctl("reload")  # the bootstrap came after the start
                found[f"apid {preload}"] = measure(made.daemon, workers, requests)
                if preload == "off":
                    for words in ([], ["--preload"]):
                        with gunicorn(made, workers, *words) as (pid, address):
                            found[" ".join(["gunicorn", *words])] = memory(pid, address, requests)
            finally:
                made.daemon.stop()
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="tests.bench.bench_preload")
    parser.add_argument("--keystone", action="store_true")
    parser.add_argument("workers", nargs="?", type=int, default=4)
    given = parser.parse_args()
    if given.keystone:
        found = with_keystone(given.workers)
    else:
        found = {f"apid {preload}": default_api(preload, given.workers) for preload in ("off", "on")}
    print(f"{given.workers} workers".ljust(34) + "".join(f"{name:>20}" for name in found))
    for figure in found["apid on"]:
        print(
            figure.ljust(34)
            + "".join(f"{one[figure]:20.3f}" if figure in one else f"{'-':>20}" for one in found.values())
        )


if __name__ == "__main__":
    main()
