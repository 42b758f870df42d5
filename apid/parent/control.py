"""The control socket: one JSON document a line in, one out; served by the parent's loop, so it answers when every worker hangs.

A request is `{"v": 1, "command": "reload"}` (with `"number": 4` for `scale`); the answer is `{"v": 1, "ok": true, "text":
"..."}` (with `"data"` for `status`). It comes when the verdict is known, which may be minutes later. One connection may ask
several times; answers come in the order in which verdicts fall.

Theory of operation. A client costs the parent a bounded time in each turn of its loop, and a bounded amount of memory. One turn
takes at most A_TURN lines and at most one of each client, in rotation. The parent does not read from a client that has a whole
line waiting, that does not read its answers, or that waits for many verdicts. A client that waits for a verdict has no deadline.
Any other connection ends after IDLE seconds of silence, or earlier when there are MOST of them and a further one arrives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import selectors
import socket
import time
from typing import Any

from apid.errors import BindError
from apid.loggers import logger
from apid.posix import socketfile
from apid.posix.socketfile import SocketFile

LOG = logger(__name__)

VERSION = 1
LONGEST = 64 * 1024
"""Bytes of a request line; a client that sends more is closed."""
MOST = 64
"""Connections at once. A further one takes the place of the one that is idle for longest; if all wait for verdicts, it waits in
the queue of the socket."""
QUEUE = 1024
"""Connections that wait in the kernel. Where there is no room for one, connect(2) with a timeout fails at once (unix(7))."""
MOST_PENDING = 16
"""Verdicts that a connection may wait for before it is read from again."""
A_TURN = 8
"""Lines that are taken in one turn of the loop."""
ACCEPTS_A_TURN = 64
"""Connections that are accepted in one turn; each is read at once, for one that asks keeps its place."""
IDLE = 60.0
"""Seconds of silence after which a connection that waits for nothing is closed."""
PAUSE = 1.0
"""Seconds without accept after an error, such as a full table of descriptors, that would only come again."""
HIGHEST_NUMBER = 1_000_000
"""Of a request; no command has a use for more."""


@dataclasses.dataclass(slots=True)
class Client:
    """One connection, by the number that verdicts are addressed to."""

    number: int
    sock: socket.socket
    since: float
    """Monotonic seconds: when something was last received, answered or sent."""
    received: bytes = b""
    unsent: bytes = b""
    closing: bool = False
    """It has shut down its writing side: it may still wait for a verdict."""
    pending: int = 0
    """Requests without a verdict."""

    @property
    def asks(self) -> bool:
        """Whether a whole line waits to be taken."""
        return b"\n" in self.received

    @property
    def open(self) -> bool:
        """Whether more may be taken from it now: it reads its answers and waits for few of them."""
        return not self.unsent and self.pending < MOST_PENDING

    @property
    def idle(self) -> bool:
        """Whether nothing is owed to it."""
        return not self.pending and not (self.asks and self.open)

    @property
    def done(self) -> bool:
        """Nothing more will come from it or go to it."""
        return self.closing and not self.pending and not self.unsent and not self.asks


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A line that was understood."""

    who: int
    command: str
    number: int = 0


class Control:
    """The listening socket and its clients.

    Args:
        path: where it listens; empty: nowhere, it has clients only.
        carried: socket and file, carried over by an upgrade; without them it is bound here.

    Raises:
        BindError: the path cannot be bound.
    """

    def __init__(self, path: str, carried: tuple[socket.socket, SocketFile] | None = None) -> None:
        self.path = path
        self._clients: dict[int, Client] = {}
        self._next = 1
        self._paused_until = 0.0
        self.server: socket.socket | None = None
        """None: it listens no more, and only the clients that it has get their answers."""
        self.file: SocketFile | None = None
        """While it listens."""
        if path:
            self.server, self.file = carried or self._listen(path)

    @staticmethod
    def _listen(path: str) -> tuple[socket.socket, SocketFile]:
        try:
            return socketfile.listen(path, QUEUE, 0o177)  # 0600 from the first moment, not by a later chmod
        except OSError as error:
            raise BindError(f"option control_socket: cannot listen on {path}: {error.strerror or error}") from error

    def is_at(self, path: str) -> bool:
        """Whether it listens, and a client that connects to `path` reaches it: the file is neither removed nor replaced."""
        return self.file is not None and self.file.is_at(path)

    # ---- connections ----

    def accepting(self, now: float) -> bool:
        """Whether to poll the listening socket: it can be accepted from, and there is room or somebody to make room."""
        crowded = len(self._clients) >= MOST and not any(client.idle for client in self._clients.values())
        return self.server is not None and now >= self._paused_until and not crowded

    def accept(self, now: float) -> Client | None:
        """Take a waiting connection; None when there is none, or no room for it."""
        if self.server is None or not self.accepting(now):
            return None
        try:
            sock, _ = self.server.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        except OSError as error:
            LOG.error("the control socket cannot accept: %s", error.strerror)  # noqa: TRY400 - a traceback would say nothing more
            self._paused_until = now + PAUSE
            return None
        if len(self._clients) >= MOST:
            idle = [one for one in self._clients.values() if one.idle]
            self.close(min(idle, key=lambda one: (not one.done, one.since)))
        return self.adopt(self._next, sock)

    def adopt(self, number: int, sock: socket.socket) -> Client:
        """Go on with a connection that an upgrade carried over."""
        sock.setblocking(False)
        client = Client(number, sock, time.monotonic())
        self._clients[number] = client
        self._next = max(self._next, number) + 1
        return client

    def due(self) -> float | None:
        """When `tick` or `requests` has something to do, in monotonic seconds; None: not before something is received."""
        if any(client.asks and client.open for client in self._clients.values()):
            return 0.0
        times = [client.since + IDLE for client in self._clients.values() if client.idle]
        return min([*times, *([self._paused_until] if self._paused_until else [])], default=None)

    def tick(self, now: float) -> None:
        """Close connections that are silent for too long; end a pause that is over."""
        if now >= self._paused_until:
            self._paused_until = 0.0
        for client in self.clients():
            if client.idle and now >= client.since + IDLE:
                self.close(client)

    # ---- requests ----

    def read(self, client: Client) -> None:
        """Receive what a client that is readable has sent; `requests` takes it. A closed client is forgotten."""
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # A client may shut down its writing side and wait for the verdict; only what cannot be written to is gone.
            client.closing = True
            return
        client.received += data
        client.since = time.monotonic()
        if len(client.received) > LONGEST and not client.asks:
            self.close(client)

    def requests(self) -> list[Request]:
        """Take the next lines, one of each client and A_TURN at most; bad ones are answered here."""
        waiting = [client for client in self._clients.values() if client.asks and client.open]
        taken: list[Request] = []
        for client in waiting[:A_TURN]:
            self._clients[client.number] = self._clients.pop(client.number)
            line, _, rest = client.received.partition(b"\n")
            client.received = rest.lstrip()  # empty lines cost no turn
            request = self._understand(client, line) if line.strip() else None
            if request is not None:
                taken.append(request)
        return taken

    def _understand(self, client: Client, line: bytes) -> Request | None:
        client.pending += 1
        try:
            document = json.loads(line)
            version, command, number = document["v"], document["command"], document.get("number", 0)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.reply(client.number, False, "not understood: a line must be a JSON object with v and command")
            return None
        if version != VERSION:
            self.reply(
                client.number, False, f"this daemon speaks version {VERSION} of the control protocol, not {version!r}"
            )
            return None
        whole = isinstance(number, int) and not isinstance(number, bool) and abs(number) <= HIGHEST_NUMBER
        if not isinstance(command, str) or not whole:
            self.reply(client.number, False, "not understood: command is a text, number a whole number")
            return None
        return Request(client.number, command, number)

    def reply(self, who: int, ok: bool, text: str, data: dict[str, Any] | None = None) -> None:
        """Answer a client; one that is gone is no error."""
        client = self._clients.get(who)
        if client is None:
            return
        client.pending = max(0, client.pending - 1)
        client.since = time.monotonic()
        document = {"v": VERSION, "ok": ok, "text": text, **({"data": data} if data is not None else {})}
        client.unsent += json.dumps(document).encode() + b"\n"
        self.flush(client)

    def flush(self, client: Client) -> None:
        """Send what can be sent without waiting."""
        try:
            while client.unsent:
                client.unsent = client.unsent[client.sock.send(client.unsent) :]
                client.since = time.monotonic()
        except BlockingIOError:
            return
        except OSError:
            self.close(client)

    def interest(self, client: Client) -> int:
        """What to poll for: nothing to read any more from one that has said its last word, or has more to be taken first."""
        reads = client.open and not client.asks and not client.closing
        return (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if client.unsent else 0)

    def close(self, client: Client) -> None:
        """Forget a client."""
        self._clients.pop(client.number, None)
        client.sock.close()

    def clients(self) -> list[Client]:
        """All of them."""
        return list(self._clients.values())

    def succeed(self, old: Control) -> None:
        """Take over the clients of the socket that this one replaces: they wait for their verdict here from now on."""
        try:
            old.stop_listening()
        finally:
            self._clients, old._clients = old._clients, {}
            self._next = old._next

    def stop_listening(self) -> None:
        """Remove the files, if they are still its own, and close; connections in the queue become clients, and clients stay."""
        if self.server is None:
            return
        try:
            self._remove()
            with contextlib.suppress(OSError):
                while True:
                    self.adopt(self._next, self.server.accept()[0])
        finally:
            self.server.close()
            self.server = None

    def end(self, *, unlink: bool) -> None:
        """Close everything; `unlink` removes the files too, and sends what can be sent (in a fork that is the parent's to do)."""
        if unlink:
            self._remove()
        for client in self.clients():
            if unlink:
                self.flush(client)
            self.close(client)
        if self.server is not None:
            self.server.close()
            self.server = None

    def _remove(self) -> None:
        file, self.file = self.file, None
        if file is not None:
            file.remove()
