"""Medians, ratios and the two tables: for a terminal, and markdown for docs/BENCHMARKS.md."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import statistics
from collections.abc import Mapping, Sequence

from tests.bench.measure import CONNECTIONS, Cores
from tests.bench.peers import Peer
from tests.bench.scenarios import Scenario
from tests.support.wrk import WrkFigures

Results = Mapping[str, Sequence[WrkFigures]]
HEAD = ("server", "version", "requests/s", "min-max", "p99 ms", "errors", "of stock", "apid is")


def version(package: str) -> str:
    """The installed version, or `-`."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def machine(cores: Cores) -> str:
    """One line on where this was measured."""
    model = platform.processor()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text("utf-8").splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    pinning = "not pinned" if cores.server is None else "server on one core, wrk on another"
    return (
        f"{model or platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}; {pinning}; wrk -t1 -c{CONNECTIONS}"
    )


def rows(results: Results, peers: Sequence[Peer]) -> list[tuple[str, ...]]:
    """One row a peer that was measured, fastest first."""
    medians = {name: statistics.median(figures.rate for figures in runs) for name, runs in results.items() if runs}
    found = []
    for peer in sorted((p for p in peers if p.name in medians), key=lambda p: -medians[p.name]):
        runs, median = results[peer.name], medians[peer.name]
        stock, apid = medians.get("eventlet.wsgi"), medians.get("apid")
        found.append(
            (
                peer.name,
                version(peer.package),
                f"{median:,.0f}",
                f"{min(run.rate for run in runs):,.0f}-{max(run.rate for run in runs):,.0f}",
                f"{statistics.median(run.latency_p99 for run in runs) * 1e3:.1f}",
                str(sum(run.errors for run in runs)),
                f"{median / stock:.2f}x" if stock else "-",
                f"{apid / median:.2f}x" if apid else "-",
            )
        )
    return found


def plain(scenario: Scenario, results: Results, peers: Sequence[Peer]) -> str:
    """A table for a terminal."""
    table = [HEAD, *rows(results, peers)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
    lines = []
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join([f"{scenario.name}: {scenario.title}", *lines])


def markdown(scenario: Scenario, results: Results, peers: Sequence[Peer]) -> str:
    """The same for docs/BENCHMARKS.md."""
    lines = ["| " + " | ".join(row) + " |" for row in [HEAD, ("---", "---", *["---:"] * 6), *rows(results, peers)]]
    notes = [f"{peer.name}: {peer.note}" for peer in peers if peer.note and results.get(peer.name)]
    return "\n".join([f"### {scenario.title}", "", *lines, "", "; ".join(notes) + ("." if notes else ""), ""])
