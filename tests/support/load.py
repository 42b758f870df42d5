"""The judge of everything that promises "nothing is lost": clients that check each answer, and an account of all of them.

Several processes (`load_client` is one), each with many connections, send GET and POST with unique ids to the application
`recording`, over TCP or a UNIX socket, on connections kept alive or used once. They retry nothing. A request is a failure
unless exactly its own answer came. `wrk` cannot be this judge: it reconnects quietly, does not look at bodies, and does not
know what was executed.
"""

from __future__ import annotations

import array
import dataclasses
import json
import os
import pathlib
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

from tests.support.client import Address

TOP = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Figures:
    """What came out of one load.

    Attributes:
        sent, answered: requests; answered are those whose own, complete, right answer came.
        failures: how many of each kind: `refused`, `reset` (sent, then RST or EPIPE and no answer), `eof` (sent, then the end
            and no answer), `cut` (the end within an answer), `wrong` (not 200, or not its own body), `timeout`, `early_close` (a
            connection ended between two requests, unannounced, before it had been idle for the minimum).
        announced: connections ended after an answer with `Connection: close`.
        idle_closes: connections found ended after at least the idle minimum; no failure.
        seconds: how long the load ran. stall: the longest that any client waited for one exchange, connecting included.
        p50, p99: of the exchanges, in seconds.
        ghosts: executed (they stand in the application's file) and not answered. lost: answered and not executed. twice:
            executed more than once. All three are 0 where no file was given.
        pids: the workers that answered.
        examples: the first few failures in words.
    """

    sent: int
    answered: int
    failures: dict[str, int]
    announced: int
    idle_closes: int
    connects: int
    seconds: float
    stall: float
    p50: float
    p99: float
    ghosts: int
    lost: int
    twice: int
    pids: frozenset[int]
    examples: tuple[str, ...]

    @property
    def errors(self) -> int:
        """Failures of every kind, ghosts and doubles included."""
        return sum(self.failures.values()) + self.ghosts + self.lost + self.twice

    def __str__(self) -> str:
        failures = ", ".join(f"{kind} {count}" for kind, count in sorted(self.failures.items())) or "none"
        text = (
            f"{self.sent} requests in {self.seconds:.1f} s over {self.connects} connections, {self.answered} answered by "
            f"{len(self.pids)} workers; failures: {failures}; ghosts {self.ghosts}, lost {self.lost}, twice {self.twice}; "
            f"closes announced {self.announced}, idle {self.idle_closes}; "
            f"p50 {self.p50 * 1e3:.1f} ms, p99 {self.p99 * 1e3:.1f} ms, longest stall {self.stall * 1e3:.0f} ms"
        )
        return "\n    ".join([text, *self.examples])


class Load:
    """A load that runs from `start` (or `with`) until `stop` gives its figures.

    Args:
        address: (host, port) or the path of a UNIX socket.
        directory: an empty one for the clients' accounts.
        mode: `keepalive`, `oneshot` (each request says `Connection: close`) or `mix` (every second connection one-shot).
        method: `GET`, `POST` or `mix`.
        connections: in all; they are spread over `processes`.
        pace: seconds between an answer and the next request of a client; 0 is as fast as it goes.
        executed: the file of the application `recording`, to find ghosts.
        idle_minimum: seconds after which the server may end an idle connection unannounced.
        body: bytes of a POST's body. timeout: seconds after which an exchange counts as lost.
    """

    def __init__(
        self,
        address: Address,
        directory: pathlib.Path,
        *,
        mode: str = "keepalive",
        method: str = "mix",
        connections: int = 64,
        processes: int = 2,
        pace: float = 0.01,
        executed: pathlib.Path | None = None,
        idle_minimum: float = 1.0,
        body: int = 100,
        timeout: float = 20.0,
        path: str = "/",
    ) -> None:
        if mode not in {"keepalive", "oneshot", "mix"} or method not in {"GET", "POST", "mix"}:
            raise ValueError(f"no such mode or method: {mode} {method}")
        self.directory = directory
        self.executed = executed
        self.processes = min(processes, connections)
        target = list(address) if isinstance(address, tuple) else os.fspath(address)
        self._specification: dict[str, Any] = {
            "address": target,
            "mode": mode,
            "method": method,
            "pace": pace,
            "idle_minimum": idle_minimum,
            "body": body,
            "timeout": timeout,
            "path": path,
        }
        self._shares = [
            connections // self.processes + (i < connections % self.processes) for i in range(self.processes)
        ]
        self._clients: list[subprocess.Popen[bytes]] = []
        self._already: set[bytes] = set()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            if client.poll() is None:
                client.kill()
            client.communicate()
        self._clients = []

    def start(self) -> Self:
        """Start the clients; returns when each has had its first answer (or failure)."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._already = set(_lines(self.executed)) if self.executed else set()
        for number, share in enumerate(self._shares):
            client = subprocess.Popen(
                [sys.executable, "-m", "tests.support.load_client"],
                cwd=TOP,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            self._clients.append(client)
            specification = {
                **self._specification,
                "number": number,
                "connections": share,
                "directory": str(self.directory),
            }
            assert client.stdin
            client.stdin.write(json.dumps(specification).encode() + b"\n")
            client.stdin.flush()
        for client in self._clients:
            assert client.stdout
            ready, _, _ = select.select([client.stdout], [], [], 30)
            if not ready or client.stdout.readline() != b"started\n":
                raise AssertionError("a load client did not start within 30 s")
        return self

    def stop(self) -> Figures:
        """Let every client finish the exchange it is in, and return the account of all."""
        parts = []
        for client in self._clients:
            assert client.stdin
            client.stdin.close()
        for client in self._clients:
            assert client.stdout
            parts.append(json.loads(client.stdout.read()))
            client.stdout.close()
            client.wait(30)
        self._clients = []
        return self._account(parts)

    def _account(self, parts: list[dict[str, Any]]) -> Figures:
        latencies = array.array("f")
        answered: list[bytes] = []
        for number in range(self.processes):
            latencies.frombytes((self.directory / f"{number}.latencies").read_bytes())
            answered += _lines(self.directory / f"{number}.answered")
        ghosts, lost, twice = self._compare(answered)
        ordered = sorted(latencies)
        failures: Counter[str] = Counter()
        for part in parts:
            failures.update(part["failures"])
        return Figures(
            sent=sum(part["sent"] for part in parts),
            answered=len(answered),
            failures=dict(failures),
            announced=sum(part["announced"] for part in parts),
            idle_closes=sum(part["idle_closes"] for part in parts),
            connects=sum(part["connects"] for part in parts),
            seconds=max(part["seconds"] for part in parts),
            stall=max(part["stall"] for part in parts),
            p50=ordered[len(ordered) // 2] if ordered else 0.0,
            p99=ordered[int(len(ordered) * 0.99)] if ordered else 0.0,
            ghosts=len(ghosts),
            lost=len(lost),
            twice=twice,
            pids=frozenset(pid for part in parts for pid in part["pids"]),
            examples=tuple(example for part in parts for example in part["examples"])[:20]
            + tuple(f"ghost {ident!r}" for ident in sorted(ghosts)[:5]),
        )

    def _compare(self, answered: Iterable[bytes]) -> tuple[set[bytes], set[bytes], int]:
        if self.executed is None:
            return set(), set(), 0
        executed = [line for line in _lines(self.executed) if line and line not in self._already]
        once, got = set(executed), set(answered)
        return once - got, got - once, len(executed) - len(once)


def _lines(path: pathlib.Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []
