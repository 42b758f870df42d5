"""Invariants at rest: executed = answered = counted, nobody twice, nothing grows, nothing is left, the log is clean."""

from __future__ import annotations

import collections
import contextlib
import re
import time
from typing import Any

from tests.chaos.account import read_calls
from tests.chaos.actions.broken import MARK
from tests.chaos.clients import HABITS
from tests.chaos.wish import Wish
from tests.chaos.world import LONG, Broken, World
from tests.support import processes
from tests.support.processes import wait_until

LINE = re.compile(r"/r/([^\s/]*\d) (\d{3}|0) (\d+)\.")  # 0: no status was sent
GLUED = re.compile(r"(?:/r?|/r/[^/.]*(?:\.[^/.]*)?)(/r/[^\s/]*\d|-) (\d{3}|0) (\d+)\.")
"""A torn line and the next one. Only the process that tore the first one knows it, until it has noted that for the others."""
MOST_GLUED = 4  # two workers, and those that take their places: each can write once in that moment
REFUSED = re.compile(r"- \d{3} \d+\.")
GROWTH = 8 * 1024 * 1024
"""Octets that the parent may have more than at the first rest; without a leak it is less than one megabyte."""

BEGINS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ")
NEVER = re.compile(
    r"bug in apid|Exception ignored|ResourceWarning|Traceback \(most recent call last\)|DeprecationWarning"
)
EXPECTED = re.compile(
    rf"{MARK}|SyntaxError|chaos_no_such_module|has no attribute 'factory'|chaos_application|startup_timeout|surrogate|utf-8"
)
"""A record of the log with a traceback is expected where the driver broke the application."""


class Rest:
    """Judges each rest, and compares it with the first one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._base = Wish(engine=world.written.engine, preload=world.written.preload)
        self.rss = 0
        self.descriptors: collections.Counter[str] | None = None
        self.torn_lines = 0
        self._read: dict[str, int] = {}

    def begin(self) -> None:
        """Come to the base configuration, so that two rests can be compared."""
        world = self.world
        names = ("workers", "engine", "preload", "extra", "access_log", "log_file", "pid_file", "more")
        world.write(**{name: getattr(self._base, name) for name in names})
        world.change(True)

    def judge(self) -> dict[str, int]:
        """Check everything; the clients pause.

        Returns:
            Figures for the report.

        Raises:
            Broken: with everything that is wrong.
        """
        world = self.world
        world.settled()
        status = wait_until(self._quiet, "no connection is open in any worker", LONG, 0.1)
        time.sleep(1.2)  # the access log is written every half second
        calls = read_calls(world.files.records)
        wrong = world.account.judge(calls)
        wrong += self.access_logs(calls)
        wrong += self.counters(world.status(), calls)
        wrong += self.parent(status)
        wrong += self.logs()
        if wrong:
            raise Broken("\n".join([f"{len(wrong)} faults at rest:", *wrong[:40]]))
        return {
            "executed": len(calls),
            **world.account.kinds,
            "torn": self.torn_lines,
            "rss": processes.rss(world.daemon.pid),
        }

    def _quiet(self) -> dict[str, Any] | None:
        status = self.world.status()
        busy = [one for one in status["workers"] if one["connections"] or one["in_flight"]]
        return None if busy else status

    # -- counted

    def access_logs(self, calls: list[Any]) -> list[str]:
        """Each call has one line."""
        logged: collections.Counter[str] = collections.Counter()
        wrong, torn, glued = [], 0, 0
        for path in [*self.world.files.directory.glob("access-*"), *self.world.files.small.glob("access*")]:
            on_small = path.parent == self.world.files.small
            for line in path.read_text(encoding="utf-8").split("\n"):
                if found := LINE.fullmatch(line):
                    logged[found[1]] += 1
                elif on_small and glued < MOST_GLUED and (found := GLUED.fullmatch(line)):
                    glued += 1
                    if found[1] != "-":
                        logged[found[1][3:]] += 1
                elif on_small and self.torn(line):
                    torn += 1
                elif line and not REFUSED.fullmatch(line):
                    wrong.append(f"{path.name} has the line {line[:200]!r}")
        self.torn_lines = torn + glued
        return wrong + self.world.account.missing_lines(calls, logged)

    @staticmethod
    def torn(line: str) -> bool:
        """Whether a line is the beginning of one, with nothing glued to it."""
        return bool(line) and line.count("/r/") <= 1 and not re.search(r" \d+\.", line) and len(line) < 100

    def counters(self, status: dict[str, Any], calls: list[Any]) -> list[str]:
        """The counters of this daemon are the calls since its start, less what a killed worker had not counted."""
        mine = [call for call in calls if call.at >= self.world.started]
        totals = status["totals"]
        killed = sum(at >= self.world.started for at in self.world.account.killed.values())
        lost = killed * len(HABITS)  # at most what was in flight, which is one request a client
        wrong = []
        if not len(mine) - lost <= totals["requests"] <= len(mine):
            wrong.append(
                f"{totals['requests']} requests counted, {len(mine)} executed, at most {lost} of them uncounted"
            )
        if totals["status_2xx"] > len(mine):
            wrong.append(f"{totals['status_2xx']} answers of 2xx counted, {len(mine)} executed since the start")
        if totals["refused"] != sum(status["refusals"].values()):
            wrong.append(f"{totals['refused']} refused, which is not the sum of {status['refusals']}")
        if totals["cut"]:
            wrong.append(f"{totals['cut']} requests were cut, and no drain came to its deadline")
        return wrong

    # -- held

    def parent(self, status: dict[str, Any]) -> list[str]:
        """The parent holds what it held at the rest before, and sleeps; there is nobody else."""
        world, pid = self.world, self.world.daemon.pid
        wrong = []
        children = {one["pid"] for one in (*status["workers"], *status["molds"])}
        with contextlib.suppress(AssertionError):  # a child that is not reaped for long is a fault
            wait_until(lambda: processes.children(pid) == children, "", 5)
        if processes.children(pid) != children:
            wrong.append(f"the parent's children are {processes.children(pid)}, its workers and molds {children}")
        orphans = {one: processes.command(one) for one in world.orphans() - {pid}}
        if list(orphans.values()) != ["apid: guard"]:
            wrong.append(f"orphans, of which one should be the guard: {orphans}")
        began = processes.cpu_seconds(pid)
        time.sleep(2)  # the parent sleeps, too
        used = processes.cpu_seconds(pid) - began
        if used > 0.2:
            wrong.append(f"the parent used {used:.2f} s of the processor in 2 s at rest")

        # Every rest has the same configuration, so each image holds the same, started, reloaded or upgraded; what is held for a
        # moment only (the connection of the watch to the control socket) is none of it.
        held = lasting(pid)
        rss = processes.rss(pid)
        if self.descriptors is None:
            self.descriptors, self.rss = held, rss
        if held != self.descriptors:
            wrong.append(f"the parent's descriptors: more {held - self.descriptors}, fewer {self.descriptors - held}")
        if rss > self.rss + GROWTH:
            wrong.append(f"the parent has grown from {self.rss >> 10} to {rss >> 10} KiB")
        return wrong

    def logs(self) -> list[str]:
        """No traceback that the driver did not cause, no bug, no warning of Python's."""
        wrong = []
        for path in {str(path): path for path in self.world.logs if path.exists()}.values():
            text = path.read_text(encoding="utf-8", errors="replace")
            new, self._read[str(path)] = text[self._read.get(str(path), 0) :], len(text)
            for record in records(new):
                if NEVER.search(record) and not EXPECTED.search(record):
                    wrong.append(f"{path.name} has:\n{record[:3000]}")
        return wrong


def lasting(pid: int) -> collections.Counter[str]:
    """Return the descriptors that a process holds for longer than a moment, by what they are."""
    common = processes.descriptors(pid)
    for _ in range(20):
        time.sleep(0.05)  # longer in all than a control connection lives
        common = dict(common.items() & processes.descriptors(pid).items())
    # The descriptor of a lock file has the name under which the file was made, if it was then linked and not renamed.
    names = (re.sub(r"/(\.apid-\w+ \(deleted\)|pid-\d+|[\w.-]+\.lock)$", "/LOCK", name) for name in common.values())
    return collections.Counter(re.sub(r"\d+", "N", name) for name in names)


def records(text: str) -> list[str]:
    """Split a log into its records: a line with a date, and the lines that follow it without one."""
    found: list[str] = []
    for line in text.splitlines():
        if BEGINS.match(line) or not found:
            found.append(line)
        else:
            found[-1] += f"\n{line}"
    return found
