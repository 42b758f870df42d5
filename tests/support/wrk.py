"""wrk(1) as a second, independent client: run it, read its figures."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclasses.dataclass(frozen=True)
class WrkFigures:
    """What wrk counted; latencies in seconds. `text` is all that it printed."""

    requests: int
    seconds: float
    rate: float
    connect: int
    read: int
    write: int
    timeout: int
    non_2xx: int
    latency_p50: float
    latency_p99: float
    latency_max: float
    text: str

    @property
    def errors(self) -> int:
        """Everything that wrk counts as one."""
        return self.connect + self.read + self.write + self.timeout + self.non_2xx

    def __str__(self) -> str:
        return (
            f"wrk: {self.requests} requests in {self.seconds:.1f} s ({self.rate:.0f}/s), errors: connect {self.connect}, read "
            f"{self.read}, write {self.write}, timeout {self.timeout}, non-2xx {self.non_2xx}; "
            f"p50 {self.latency_p50 * 1e3:.2f} ms, p99 {self.latency_p99 * 1e3:.2f} ms, max {self.latency_max * 1e3:.0f} ms"
        )


def have_wrk() -> None:
    """Skip the calling test where there is no wrk."""
    import pytest  # here, because bin/bench uses this module where there is no pytest

    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed (Debian: apt-get install wrk)")


def command(
    url: str,
    *,
    connections: int = 64,
    threads: int = 2,
    seconds: float = 5,
    script: str | os.PathLike[str] | None = None,
    headers: dict[str, str] | None = None,
) -> list[str]:
    """Return the command line of one run."""
    words = ["wrk", "-t", str(min(threads, connections)), "-c", str(connections), "-d", f"{seconds:g}s", "--latency"]
    for name, value in (headers or {}).items():
        words += ["-H", f"{name}: {value}"]
    if script:
        words += ["-s", os.fspath(script)]
    return [*words, url]


def start(url: str, log: pathlib.Path, **options: object) -> subprocess.Popen[bytes]:
    """Start a run that writes to `log`; `finish` waits for it."""
    have_wrk()
    with open(log, "wb") as output:
        return subprocess.Popen(command(url, **options), stdout=output, stderr=output)  # type: ignore[arg-type]  # passed on


def finish(process: subprocess.Popen[bytes], log: pathlib.Path, deadline: float = 120.0) -> WrkFigures:
    """Wait for a run that `start` began."""
    process.wait(deadline)
    return parse(log.read_text(encoding="utf-8"))


def wrk(url: str, **options: object) -> WrkFigures:
    """Run wrk and return its figures; options as for `command`."""
    have_wrk()
    done = subprocess.run(command(url, **options), capture_output=True, text=True, check=False, timeout=180)  # type: ignore[arg-type]  # passed on
    return parse(done.stdout + done.stderr)


def parse(text: str) -> WrkFigures:
    """Read wrk's report.

    Raises:
        AssertionError: it is none (wrk could not connect at all, or a bad script); with the text.
    """
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m|h)", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not total or not rate:
        raise AssertionError(f"wrk gave no figures:\n{text}")
    socket = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    connect, read, write, timeout = map(int, socket.groups()) if socket else (0, 0, 0, 0)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return WrkFigures(
        requests=int(total[1]),
        seconds=float(total[2]) * UNITS[total[3]],
        rate=float(rate[1]),
        connect=connect,
        read=read,
        write=write,
        timeout=timeout,
        non_2xx=int(bad[1]) if bad else 0,
        latency_p50=_time(text, r"50%\s+([\d.]+)(us|ms|s|m|h)"),
        latency_p99=_time(text, r"99%\s+([\d.]+)(us|ms|s|m|h)"),
        latency_max=_time(text, r"Latency\s+\S+\s+\S+\s+([\d.]+)(us|ms|s|m|h)"),
        text=text,
    )


def _time(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) * UNITS[found[2]] if found else 0.0
