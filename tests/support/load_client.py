"""One process of a `Load`: reads its orders from stdin, says `started`, ends when stdin does, prints its account as JSON.

Each connection is a thread with blocking calls, so that what it does can be read from top to bottom.
"""

from __future__ import annotations

import array
import collections
import itertools
import json
import os
import pathlib
import sys
import threading
import time
from typing import Any

from tests.support.client import AnswerError, Connection, NoAnswer, request_bytes


class Client(threading.Thread):
    """One client: one connection at a time, one exchange after another, until told to stop."""

    def __init__(self, orders: dict[str, Any], index: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.orders = orders
        self.name = f"{orders['number']}.{index}"
        target = orders["address"]
        self.address = (target[0], target[1]) if isinstance(target, list) else target
        self.oneshot = orders["mode"] == "oneshot" or (orders["mode"] == "mix" and index % 2 == 1)
        self.stop = stop
        self.first = threading.Event()
        self.connection: Connection | None = None
        self.since = 0.0
        """When the open connection became idle (monotonic); 0 while it is fresh."""
        self.sent = self.connects = self.announced = self.idle_closes = 0
        self.stall = 0.0
        self.latencies = array.array("f")
        self.answered: list[str] = []
        self.pids: set[str] = set()
        self.failures: collections.Counter[str] = collections.Counter()
        self.examples: list[str] = []
        self.body = b"x" * orders["body"]

    def run(self) -> None:
        """Exchange until stopped."""
        for number in itertools.count():
            ident = f"{self.name}.{number}.{os.getpid()}"
            started = time.monotonic()
            try:
                right = self.exchange(ident, number)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is one failed request and belongs into the account
                right = self.fail("wrong", f"{ident}: {type(error).__name__}: {error}")
            took = time.monotonic() - started
            self.stall = max(self.stall, took)
            if right:
                self.latencies.append(took)
                self.answered.append(ident)
            else:
                self.drop()
                self.stop.wait(0.01)  # a server that is gone must not make a busy loop of us
            self.first.set()
            if self.stop.wait(self.orders["pace"]) if self.orders["pace"] else self.stop.is_set():
                break
        self.drop()

    def drop(self) -> None:
        """Close the connection, if there is one."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def fail(self, kind: str, example: str) -> bool:
        """Note a failure; returns False."""
        self.failures[kind] += 1
        if len(self.examples) < 5:
            self.examples.append(f"{kind} at {time.monotonic():.3f}: {example}")
        return False

    def exchange(self, ident: str, number: int) -> bool:
        """Send one request and judge its answer; returns whether it was the right one."""
        fresh = self.connection is None
        idle = 0.0 if fresh else time.monotonic() - self.since
        if self.connection is not None and self.connection.ended():
            self.drop()
            if idle < self.orders["idle_minimum"]:
                return self.fail("early_close", f"{ident}: ended unannounced after {idle * 1e3:.1f} ms of idleness")
            self.idle_closes += 1
            fresh = True
        try:
            if self.connection is None:
                self.connection = Connection(self.address, timeout=self.orders["timeout"])
                self.connects += 1
        except TimeoutError:
            return self.fail("timeout", f"{ident}: connecting")
        except OSError as error:
            return self.fail("refused", f"{ident}: {error}")
        return self.ask(self.connection, ident, number, "a fresh" if fresh else f"a {idle * 1e3:.1f} ms idle")

    def ask(self, connection: Connection, ident: str, number: int, which: str) -> bool:
        """Send and judge on an open connection."""
        wanted = self.orders["method"]
        method = ("GET", "POST")[number % 2] if wanted == "mix" else wanted
        headers = {"X-Id": ident, **({"Connection": "close"} if self.oneshot else {})}
        body = self.body if method == "POST" else None
        self.sent += 1
        try:
            connection.send(request_bytes(method, self.orders["path"], headers=headers, body=body))
            answer = connection.answer(method)
        except TimeoutError:
            return self.fail("timeout", f"{ident}: {method} on {which} connection")
        except NoAnswer:
            return self.fail("eof", f"{ident}: {method} on {which} connection")
        except AnswerError as error:
            return self.fail("cut", f"{ident}: {method} on {which} connection: {error}")
        except OSError as error:
            return self.fail("reset", f"{ident}: {method} on {which} connection: {error}")
        self.since = time.monotonic()
        expected = f"id={ident} length={len(body or b'')} pid="
        if answer.status != 200 or not answer.text.startswith(expected) or not answer.text.endswith("\n"):
            return self.fail("wrong", f"{ident}: {answer.status} {answer.body[:100]!r}")
        self.pids.add(answer.text[len(expected) :].strip())
        if answer.closes or self.oneshot:
            self.announced += answer.closes and not self.oneshot
            self.drop()
        return True


def main() -> None:
    """Do as the orders on stdin say."""
    orders = json.loads(sys.stdin.readline())
    stop = threading.Event()
    threading.stack_size(256 * 1024)
    clients = [Client(orders, index, stop) for index in range(orders["connections"])]
    started = time.monotonic()
    for client in clients:
        client.start()
    for client in clients:
        client.first.wait(20)
    sys.stdout.write("started\n")
    sys.stdout.flush()
    sys.stdin.read()
    stop.set()
    for client in clients:
        client.join(orders["timeout"] + 5)
    seconds = time.monotonic() - started
    base = pathlib.Path(orders["directory"]) / str(orders["number"])
    base.with_suffix(".latencies").write_bytes(b"".join(client.latencies.tobytes() for client in clients))
    base.with_suffix(".answered").write_text("".join(f"{i}\n" for c in clients for i in c.answered), encoding="ascii")
    failures: collections.Counter[str] = collections.Counter()
    for client in clients:
        failures.update(client.failures)
        if client.is_alive():
            failures["timeout"] += 1
    account = {
        "sent": sum(client.sent for client in clients),
        "connects": sum(client.connects for client in clients),
        "announced": sum(client.announced for client in clients),
        "idle_closes": sum(client.idle_closes for client in clients),
        "stall": max(client.stall for client in clients),
        "failures": failures,
        "pids": sorted({int(pid) for client in clients for pid in client.pids}),
        "examples": [example for client in clients for example in client.examples][:20],
        "seconds": seconds,
    }
    sys.stdout.write(json.dumps(account))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
