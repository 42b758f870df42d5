"""What was sent, what became of it, and what may have become of it. Knows no daemon: it is told, and judges.

A request has exactly one fate. A failure is a fault of the daemon unless a `Disruption` covers it in time, and worker where that
is known. Executed requests are read from the application's files, logged ones from the access logs.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import pathlib
import threading
import time
from collections.abc import Iterable, Iterator

GRACE = 0.75
"""Seconds that a connection without a request is kept open in a drain; docs/HTTP_ENGINE.md promises 0.8."""

AFTER = 5.0
"""Seconds after the end of a disruption in which a client may still notice it: the clients share the machine."""


@dataclasses.dataclass
class Disruption:
    """Something that the driver did and that takes requests from clients.

    Attributes:
        kind: `closing`: connections are refused or closed, and nothing that failed was executed. `lossy`: requests may be
            executed and unanswered.
        pids: the workers concerned; empty: any.
        listener: the only one concerned; empty: all.
    """

    kind: str
    begin: float
    end: float = float("inf")
    pids: frozenset[int] = frozenset()
    listener: str = ""

    def covers(self, failure: Failure) -> bool:
        """Whether this may be the cause of the failure."""
        in_time = self.begin <= failure.end and failure.begin <= self.end + AFTER
        whose = not self.pids or not failure.pid or failure.pid in self.pids
        return in_time and whose and (not self.listener or self.listener == failure.listener)


@dataclasses.dataclass(frozen=True)
class Failure:
    """A request without its own complete answer.

    Attributes:
        kind: `refused` (no connection), `eof` (no octet of an answer), `cut` (within the answer), `timeout`, `error`
            (5xx), `wrong`.
        begin, end: since when the connection was known to be well, and when the failure was seen (monotonic).
        idle: seconds between the last sign of the connection's life and the request.
        pid: the worker that had answered on this connection before; 0: not known.
    """

    ident: str
    kind: str
    begin: float
    end: float
    listener: str
    idle: float = 0.0
    pid: int = 0
    text: str = ""

    def __str__(self) -> str:
        return (
            f"{self.ident} on {self.listener}: {self.kind} {self.text} (idle {self.idle:.3f} s, worker {self.pid or '?'}, "
            f"from {self.begin:.3f} to {self.end:.3f})"
        )


@dataclasses.dataclass(frozen=True)
class Call:
    """A line of the application's file: one request that was executed."""

    ident: str
    version: int
    at: float
    pid: int


class Account:
    """The fates of all requests. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent: dict[str, str] = {}
        """By id: the empty text (under way), `answered`, `refused`, `failed`, `aborted` (by the client), `unserved` (must not be
        executed)."""
        self.kinds: collections.Counter[str] = collections.Counter()
        self.failures: list[Failure] = []
        self.disruptions: list[Disruption] = []
        self.faults: list[str] = []
        self.versions: list[tuple[float, int]] = [(0.0, 0)]
        """(since, version): connections opened from then on are answered with this version or a later one."""
        self.newest = 0
        """The newest version that was written to the disk."""
        self.killed: dict[int, float] = {}
        """Workers that lost what they had not yet written to the access log."""
        self.disk: list[Disruption] = []
        """When the disk of the access log was full."""

    # -- told by clients

    def send(self, idents: Iterable[str]) -> None:
        """Note requests before their first octet is sent."""
        with self._lock:
            self.sent.update(dict.fromkeys(idents, ""))

    def settle(self, ident: str, fate: str) -> None:
        """Note the one fate of a request."""
        with self._lock:
            before = self.sent.get(ident)
            if before != "":
                self.faults.append(f"{ident} has two fates: {before} and {fate}")
            self.sent[ident] = fate
            self.kinds[fate] += 1

    def answered(self, ident: str, version: int, opened: float) -> None:
        """Note a complete and right answer, and judge its version."""
        self.settle(ident, "answered")
        with self._lock:
            least = max(number for since, number in self.versions if since <= opened)
            if not least <= version <= self.newest:
                self.faults.append(
                    f"{ident} was answered with version {version} on a connection opened at {opened:.3f}: "
                    f"not between {least} and {self.newest}"
                )

    def fail(self, failure: Failure) -> None:
        """Note a failure; it is judged at the next rest, when all disruptions are known."""
        self.settle(failure.ident, "failed")
        with self._lock:
            self.failures.append(failure)

    def share(self, ident: str, other: str) -> None:
        """Note that `other` failed with `ident`: both were on the same connection."""
        with self._lock:
            failure = next(one for one in reversed(self.failures) if one.ident == ident)
        self.fail(dataclasses.replace(failure, ident=other))

    def fault(self, text: str) -> None:
        """Note what nothing excuses."""
        with self._lock:
            self.faults.append(text)

    # -- told by the driver

    @contextlib.contextmanager
    def disrupt(self, kind: str, *, pids: Iterable[int] = (), listener: str = "") -> Iterator[Disruption]:
        """Declare what the body of the `with` takes from clients."""
        one = Disruption(kind, time.monotonic(), pids=frozenset(pids), listener=listener)
        with self._lock:
            self.disruptions.append(one)
        if kind == "lossy":
            self.killed.update(dict.fromkeys(one.pids, one.begin))
        try:
            yield one
        finally:
            one.end = time.monotonic()

    def publish(self, version: int) -> None:
        """From now on, new connections are answered with this version or a later one."""
        with self._lock:
            self.versions.append((time.monotonic(), version))

    # -- judged

    def judge(self, calls: list[Call]) -> list[str]:
        """Return what is wrong when no request is under way; each failure is judged once."""
        with self._lock:
            found, self.faults = self.faults, []
            failures, self.failures = self.failures, []
            sent = dict(self.sent)
        counts = collections.Counter(call.ident for call in calls)
        for ident, count in counts.items():
            fate = sent.get(ident)
            if count > 1:
                found.append(f"{ident} was executed {count} times")
            if fate is None:
                found.append(f"{ident} was executed and never sent")
            elif fate in {"refused", "unserved"}:
                found.append(f"{ident} was executed, though it was {fate}")
        for ident, fate in sent.items():
            if fate == "answered" and ident not in counts:
                found.append(f"{ident} was answered and never executed")
            elif fate == "":
                found.append(f"{ident} has no fate")
        return found + [text for failure in failures if (text := self._excuse(failure, counts[failure.ident]))]

    def _excuse(self, failure: Failure, executed: int) -> str:
        """Return why nothing excuses the failure; the empty text: something does."""
        if failure.kind in {"timeout", "wrong"}:
            return f"{failure}"
        covering = {one.kind for one in self.disruptions if one.covers(failure)}
        if "lossy" in covering:
            return ""
        if executed:
            return f"{failure}; it was executed (a ghost)"
        if failure.kind == "eof" and failure.idle >= GRACE:
            return ""
        if failure.kind in {"eof", "refused"} and "closing" in covering:
            return ""
        return f"{failure}"

    def missing_lines(self, calls: list[Call], logged: collections.Counter[str]) -> list[str]:
        """Compare the calls with the lines of the access logs."""
        found = [f"{ident} has {count} lines in the access log" for ident, count in logged.items() if count > 1]
        executed = {call.ident for call in calls}
        found += [f"{ident} is in the access log and was not executed" for ident in logged if ident not in executed]
        for call in calls:
            lost = any(one.begin - AFTER <= call.at <= one.end + AFTER for one in self.disk)
            if call.ident not in logged and call.pid not in self.killed and not lost:
                found.append(f"{call.ident} of worker {call.pid} is not in the access log (called at {call.at:.3f})")
        return found


def read_calls(path: pathlib.Path) -> list[Call]:
    """Read what the application recorded."""
    calls = []
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, ident, *rest = line.split(" ")
        if kind == "call":
            calls.append(Call(ident, int(rest[0]), float(rest[1]), int(rest[2])))
    return calls
