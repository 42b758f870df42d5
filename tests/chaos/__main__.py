"""Repeat a session by hand: `python -m tests.chaos --seed 7 --seconds 60 --only worker_killed,new_content`."""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import time

from tests.chaos.actions import TABLE
from tests.chaos.session import Session
from tests.chaos.world import Broken
from tests.support import processes


def main() -> int:
    """Run one session; 1: something was broken."""
    parser = argparse.ArgumentParser(prog="tests.chaos")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--actions", type=int, default=1_000_000)
    parser.add_argument("--only", default="", help=f"of {', '.join(sorted(TABLE))}")
    given = parser.parse_args()
    processes.become_subreaper()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="apid-chaos-"))
    only = [name for name in given.only.split(",") if name]
    try:
        Session(directory, given.seed, only).run(given.seconds, given.actions)
    except Broken as broken:
        print(f"BROKEN in {directory}: {broken}")  # noqa: T201 - a command
        return 1
    return 0


sys.exit(main())
