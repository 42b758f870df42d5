"""The command: `bin/bench [--rounds N] [--seconds S] [--only NAME]... [--scenario NAME]... [--markdown FILE]`."""

from __future__ import annotations

import argparse
import pathlib
import shutil
import sys

from tests.bench import report
from tests.bench.measure import Cores, PeerError, measure
from tests.bench.peers import PEERS, Peer
from tests.bench.scenarios import SCENARIOS, Scenario
from tests.support.wrk import WrkFigures


def arguments(words: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="bin/bench", description="apid and its peers under wrk, one worker on one core each."
    )
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; medians are printed (5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (3)")
    parser.add_argument(
        "--only", action="append", metavar="PEER", choices=[p.name for p in PEERS], help="measure these peers only"
    )
    parser.add_argument("--scenario", action="append", choices=[s.name for s in SCENARIOS], help="measure these only")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="append the tables as markdown")
    return parser.parse_args(words)


def those_for(scenario: Scenario, only: list[str] | None) -> list[Peer]:
    """The peers that a scenario is for."""
    wanted = [peer for peer in PEERS if not only or peer.name in only]
    wanted = [peer for peer in wanted if not scenario.peers or peer.name in scenario.peers]
    return [peer for peer in wanted if peer.logs or not scenario.access_log]


def run(
    scenario: Scenario, peers: list[Peer], rounds: int, seconds: float, cores: Cores
) -> dict[str, list[WrkFigures]]:
    """All rounds of one scenario; a peer that fails is named and left out from then on."""
    results: dict[str, list[WrkFigures]] = {peer.name: [] for peer in peers}
    failed: set[str] = set()
    for number in range(rounds):
        for peer in peers:
            if peer.name in failed:
                continue
            try:
                figures = measure(peer, scenario, seconds, cores)
            except (PeerError, OSError) as error:
                print(f"  {peer.name}: skipped: {error}", flush=True)
                failed.add(peer.name)
                continue
            results[peer.name].append(figures)
            print(f"  round {number + 1}: {peer.name}: {figures.rate:,.0f}/s", file=sys.stderr, flush=True)
    return {name: runs for name, runs in results.items() if name not in failed}


def main(words: list[str] | None = None) -> int:
    """Measure and print."""
    wanted = arguments(words)
    if shutil.which("wrk") is None:
        print("bin/bench: wrk is not installed (Debian: apt-get install wrk)", file=sys.stderr)
        return 2
    cores = Cores.found()
    print(report.machine(cores))
    texts = []
    for scenario in SCENARIOS:
        if wanted.scenario and scenario.name not in wanted.scenario:
            continue
        peers = those_for(scenario, wanted.only)
        results = run(scenario, peers, wanted.rounds, wanted.seconds, cores)
        print(f"\n{report.plain(scenario, results, peers)}\n", flush=True)
        texts.append(report.markdown(scenario, results, peers))
    if wanted.markdown:
        with open(wanted.markdown, "a", encoding="utf-8") as file:
            file.write("\n".join([report.machine(cores), "", *texts]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
