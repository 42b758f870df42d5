"""Clients of every sort. Each is a thread with blocking calls and a habit; each answer is checked to its last octet.

They retry nothing. A client whose listener is not there waits. `Crowd.pause` returns when every client has closed its connection
and no request is under way.
"""

from __future__ import annotations

import contextlib
import random
import ssl
import threading
import time
import zlib
from collections.abc import Callable

from tests.chaos.account import GRACE, Account, Failure
from tests.chaos.application import PATTERN
from tests.support.client import Address, Answer, AnswerError, Connection, NoAnswer

TIMEOUT = 90.0
"""Seconds for one read or write: far more than any pause that the driver makes."""

MALFORMED = (
    b"GET {path} HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET {path} HTTP/1.1\r\n\r\n",
    b"GET {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET {path}\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"G(T {path} HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET {path} HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    b"GET {path} HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20000 + b"\r\n\r\n",
    b"GET {path}" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET {path} HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 400 + b"\r\n",
    b"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET {path} HTTP/3.0\r\nHost: a\r\n\r\n",
    b"GET {path} HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n",
)


class Client(threading.Thread):
    """One client with one habit.

    Args:
        name: begins its ids.
        habit: a function of this module: takes the client, makes one exchange or several.
        listener: whom it asks.
        address: gives the listener's address, None while it is not there.
    """

    def __init__(
        self,
        name: str,
        habit: Callable[[Client], None],
        listener: str,
        address: Callable[[str], Address | None],
        account: Account,
        dice: random.Random,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.habit, self.listener, self.account, self.dice = habit, listener, account, dice
        self._address = address
        self.tls: ssl.SSLContext | None = None
        if listener == "secure":
            self.tls = ssl.create_default_context()
            self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        self.go, self.resting, self.over = threading.Event(), threading.Event(), threading.Event()
        self.connection: Connection | None = None
        self.opened = self.well = 0.0
        """When the connection was opened; when it gave its last sign of life."""
        self.pid = 0
        """The worker that answered last on the connection."""
        self._number = 0

    def run(self) -> None:
        """Exchange while the crowd goes; rest while it pauses."""
        while not self.over.is_set():
            if not self.go.is_set():
                self.drop()
                self.resting.set()
                self.go.wait(0.2)
                continue
            self.resting.clear()
            if self._address(self.listener) is None:
                self.drop()
                self.over.wait(0.05)
                continue
            try:
                self.habit(self)
            except Exception as error:  # noqa: BLE001 - a client that dies would judge nothing any more
                self.account.fault(f"{self.name}: {type(error).__name__}: {error}")
                self.drop()
            self.over.wait(self.think())
        self.drop()
        self.resting.set()

    def think(self) -> float:
        """Seconds until the next exchange; now and then longer than an idle connection lives in a drain."""
        return self.dice.choice((0.02, 0.05, 0.1, 0.2, 0.2, 1.2))

    # -- parts of an exchange

    def idents(self, count: int = 1) -> list[str]:
        """Make ids and announce them."""
        made = [f"{self.name}.{self._number + at}" for at in range(count)]
        self._number += count
        self.account.send(made)
        return made

    def drop(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def connect(self, ident: str) -> Connection | None:
        """Return the open connection or a new one; None: there is none, and the request has its fate."""
        now = time.monotonic()
        if self.connection is not None and self.connection.ended():
            idle = now - self.well
            self.drop()
            if idle < GRACE:
                self.failed(ident, "eof", f"ended unannounced after {idle:.3f} s")
                return None
        if self.connection is not None:
            return self.connection
        address = self._address(self.listener)
        self.opened = self.well = now
        self.pid = 0
        try:
            if address is None:
                raise ConnectionRefusedError("the listener has been removed")
            self.connection = Connection(address, timeout=TIMEOUT, tls=self.tls)
        except TimeoutError as error:
            self.failed(ident, "timeout", f"connecting: {error}")
        except ssl.SSLError as error:
            self.failed(ident, "eof", f"handshake: {error}")
        except (ConnectionResetError, BrokenPipeError) as error:
            self.failed(ident, "eof", f"connecting: {error}")
        except OSError as error:
            self.failed(ident, "refused", str(error))
        self.well = time.monotonic()
        return self.connection

    def failed(self, ident: str, kind: str, text: str = "", idle: float = 0.0) -> None:
        """Give the request its fate, and drop the connection."""
        now = time.monotonic()
        self.account.fail(Failure(ident, kind, self.well, now, self.listener, idle, self.pid, text))
        self.drop()

    def attempt(self, ident: str, send: Callable[[Connection], None], method: str = "GET") -> Answer | None:
        """Send by `send` and read one answer; None: it failed, and has its fate."""
        connection = self.connect(ident)
        if connection is None:
            return None
        idle = time.monotonic() - self.well
        try:
            # An answer may be there before the content is sent; without one, reading says so.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                send(connection)
            return connection.answer(method)
        except TimeoutError as error:
            self.failed(ident, "timeout", str(error), idle)
        except (NoAnswer, ConnectionResetError, BrokenPipeError, ssl.SSLError) as error:
            self.failed(ident, "eof", f"{method}: {error}", idle)
        except AnswerError as error:
            self.failed(ident, "cut", f"{method}: {error}", idle)
        return None

    def judge(
        self, ident: str, answer: Answer | None, *, method: str = "GET", body: bytes = b"", size: int = 0
    ) -> bool:
        """Check an answer to its last octet; returns whether the connection goes on."""
        if answer is None:
            return False
        pid, version = answer.header("X-Pid") or "0", answer.header("X-Version") or "0"
        length = len(body) if method in {"POST", "PUT"} else 0
        checksum = zlib.crc32(body) if length else 0
        first = f"id={ident} version={version} pid={pid} length={length} crc={checksum}\n".encode()
        expected = b"" if method == "HEAD" else first + (PATTERN * (size // len(PATTERN) + 1))[:size]
        if answer.status >= 500:
            self.failed(ident, "error", f"{answer.status} {answer.body[:200]!r}")
            return False
        if answer.status != 200 or answer.header("X-Id") != ident or answer.body != expected:
            self.failed(ident, "wrong", f"{answer.status} {answer.headers} {answer.body[:200]!r}")
            return False
        self.well, self.pid = time.monotonic(), int(pid)
        self.account.answered(ident, int(version), self.opened)
        if answer.closes:
            self.drop()
        return not answer.closes


def head(method: str, path: str, *fields: str) -> bytes:
    """Return a request's head."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


# -- habits


def keep_alive(client: Client) -> None:
    """One GET or POST on a connection that is kept."""
    [ident] = client.idents()
    method = client.dice.choice(("GET", "POST"))
    body = client.dice.randbytes(client.dice.randrange(1, 3000)) if method == "POST" else b""
    octets = head(method, f"/r/{ident}", *([f"Content-Length: {len(body)}"] if body else [])) + body
    client.judge(ident, client.attempt(ident, lambda c: c.send(octets), method), method=method, body=body)


def one_shot(client: Client) -> None:
    """One request on a connection of its own."""
    client.drop()
    [ident] = client.idents()
    pause = client.dice.choice(("", "?pause=0.3"))
    octets = head("GET", f"/r/{ident}{pause}", "Connection: close")
    client.judge(ident, client.attempt(ident, lambda c: c.send(octets)))
    client.drop()


def pipelined(client: Client) -> None:
    """Several requests at once; what follows an answer that ends the connection must not be executed."""
    idents = client.idents(client.dice.randrange(2, 6))
    octets = b"".join(head("GET", f"/r/{ident}") for ident in idents)
    goes_on = True
    for ident in idents:
        if not goes_on:
            client.account.settle(ident, "unserved")
            continue
        answer = client.attempt(ident, lambda c, first=ident == idents[0]: c.send(octets if first else b""))
        if answer is None:
            for later in idents[idents.index(ident) + 1 :]:
                client.account.share(ident, later)
            return
        goes_on = client.judge(ident, answer)


def slow_head(client: Client) -> None:
    """A head in pieces, on a connection of its own."""
    client.drop()
    [ident] = client.idents()
    octets = head("GET", f"/r/{ident}", "X-Slow: yes", "X-Slower: yes", "Connection: close")

    def send(connection: Connection) -> None:
        for begin in range(0, len(octets), 20):
            connection.send(octets[begin : begin + 20])
            client.over.wait(0.15)

    client.judge(ident, client.attempt(ident, send))
    client.drop()


def slow_body(client: Client) -> None:
    """Content of a known length, in pieces."""
    [ident] = client.idents()
    body = client.dice.randbytes(2000)

    def send(connection: Connection) -> None:
        connection.send(head("POST", f"/r/{ident}", f"Content-Length: {len(body)}"))
        for begin in range(0, len(body), 400):
            connection.send(body[begin : begin + 400])
            client.over.wait(0.2)

    client.judge(ident, client.attempt(ident, send, "POST"), method="POST", body=body)


def chunked(client: Client) -> None:
    """Chunked content of up to half a megabyte."""
    [ident] = client.idents()
    parts = [client.dice.randbytes(client.dice.randrange(1, 100_000)) for _ in range(client.dice.randrange(1, 6))]

    def send(connection: Connection) -> None:
        connection.send(head("PUT", f"/r/{ident}", "Transfer-Encoding: chunked"))
        for part in parts:
            connection.send(b"%x\r\n%b\r\n" % (len(part), part))
            client.over.wait(0.02)
        connection.send(b"0\r\n\r\n")

    client.judge(ident, client.attempt(ident, send, "PUT"), method="PUT", body=b"".join(parts))


def download(client: Client) -> None:
    """An answer of up to three megabytes, with and without a length."""
    [ident] = client.idents()
    size = client.dice.randrange(1, 3_000_000)
    octets = head("GET", f"/r/{ident}?size={size}&length={client.dice.choice(('yes', 'no'))}")
    client.judge(ident, client.attempt(ident, lambda c: c.send(octets)), size=size)


def head_only(client: Client) -> None:
    """HEAD: the head of an answer that has content."""
    [ident] = client.idents()
    octets = head("HEAD", f"/r/{ident}?size=1000")
    client.judge(ident, client.attempt(ident, lambda c: c.send(octets), "HEAD"), method="HEAD")


def expecting(client: Client) -> None:
    """Content that is sent after 100 (Continue) only."""
    [ident] = client.idents()
    body = client.dice.randbytes(5000)

    def send(connection: Connection) -> None:
        fields = f"Content-Length: {len(body)}", "Expect: 100-continue"
        connection.send(head("POST", f"/r/{ident}", *fields))
        if connection.interim():
            connection.send(body)

    client.judge(ident, client.attempt(ident, send, "POST"), method="POST", body=body)


def aborting(client: Client) -> None:
    """The client leaves: within the head, within the content, or within the answer."""
    client.drop()
    [ident] = client.idents()
    how = client.dice.randrange(3)
    connection = client.connect(ident)
    if connection is None:
        return
    complete = head("GET", f"/r/{ident}?size=2000000")
    try:
        if how == 0:
            connection.send(complete[:-4])
        elif how == 1:
            connection.send(head("POST", f"/r/{ident}", "Content-Length: 5000") + b"x" * 100)
        else:
            connection.send(complete)
            connection.sock.recv(1000)
    except OSError:
        pass  # closed by the daemon, which changes nothing here
    if client.dice.random() < 0.5:
        connection.reset()
    client.drop()
    client.account.settle(ident, "unserved" if how == 0 else "aborted")


def malformed(client: Client) -> None:
    """What is no request gets an error and is not executed."""
    client.drop()
    [ident] = client.idents()
    octets = client.dice.choice(MALFORMED).replace(b"{path}", f"/r/{ident}".encode())
    answer = client.attempt(ident, lambda c: c.send(octets))
    client.drop()
    if answer is None:
        return
    if answer.status in {400, 408, 414, 417, 431, 501, 505}:
        client.account.settle(ident, "refused")
    else:
        client.failed(ident, "wrong", f"{octets[:100]!r}: {answer.status}")


HABITS: tuple[tuple[Callable[[Client], None], str], ...] = (
    (keep_alive, "main"), (keep_alive, "main"), (one_shot, "main"), (one_shot, "main"), (pipelined, "main"), (slow_head, "main"),
    (slow_body, "main"), (chunked, "main"), (download, "main"), (head_only, "main"), (expecting, "main"), (aborting, "main"),
    (malformed, "main"), (keep_alive, "secure"), (download, "secure"), (one_shot, "secure"), (keep_alive, "local"),
    (one_shot, "local"), (one_shot, "second"),
)  # fmt: skip


class Crowd:
    """All clients. Their dice are made from the seed; what they do is theirs, and does not move the driver's dice."""

    def __init__(self, seed: int, account: Account, address: Callable[[str], Address | None]) -> None:
        self.clients = [
            Client(f"{habit.__name__}-{at}", habit, listener, address, account, random.Random(f"{seed} client {at}"))
            for at, (habit, listener) in enumerate(HABITS)
        ]
        for client in self.clients:
            client.start()

    def go(self) -> None:
        """Let all clients exchange."""
        for client in self.clients:
            client.resting.clear()
            client.go.set()

    def pause(self) -> list[str]:
        """Stop all clients and wait until each has finished its exchange; returns the names of those that did not."""
        for client in self.clients:
            client.go.clear()
        end = time.monotonic() + TIMEOUT + 30
        return [one.name for one in self.clients if not one.resting.wait(max(0.0, end - time.monotonic()))]

    def end(self) -> None:
        """End all threads."""
        for client in self.clients:
            client.over.set()
            client.go.clear()
        for client in self.clients:
            client.join(TIMEOUT)
