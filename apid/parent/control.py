"""The control socket: one JSON document a line in, one out; served by the parent's loop, so it answers when every worker hangs.

A request is `{"v": 1, "command": "reload"}` (with `"number": 4` for `scale`); the answer is `{"v": 1, "ok": true, "text":
"..."}` (with `"data"` for `status`). It comes when the verdict is known, which may be minutes later. One connection may ask
several times; answers come in the order in which verdicts fall.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import selectors
import socket
from typing import Any

from apid.errors import BindError
from apid.posix import sockets

LOG = logging.getLogger(__name__)

VERSION = 1
LONGEST = 64 * 1024
"""Bytes of a request line; a client that sends more is closed."""
MOST = 64
"""Connections at once; a further one waits in the queue of the socket."""


@dataclasses.dataclass(slots=True)
class Client:
    """One connection, by the number that verdicts are addressed to."""

    number: int
    sock: socket.socket
    received: bytes = b""
    unsent: bytes = b""
    closing: bool = False
    """It has shut down its writing side: it may still wait for a verdict."""
    pending: int = 0
    """Requests without a verdict."""

    @property
    def done(self) -> bool:
        """Nothing more will come from it or go to it."""
        return self.closing and not self.pending and not self.unsent


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A line that was understood."""

    who: int
    command: str
    number: int = 0


class Control:
    """The listening socket and its clients.

    Raises:
        BindError: the path cannot be bound.
    """

    def __init__(self, path: str, server: socket.socket | None = None) -> None:
        self.path = path
        self._pid = os.getpid()
        self._clients: dict[int, Client] = {}
        self._next = 1
        self.server: socket.socket | None = server or self._listen(path)
        """None: it listens no more, and only the clients that it has get their answers."""

    @staticmethod
    def _listen(path: str) -> socket.socket:
        before = os.umask(0o177)  # 0600 from the first moment, not by a later chmod
        try:
            return sockets.listening_at(path, MOST)
        except OSError as error:
            raise BindError(f"option control_socket: cannot listen on {path}: {error.strerror or error}") from error
        finally:
            os.umask(before)

    def accept(self) -> Client | None:
        """Take a waiting connection; None when there is none or there are too many.

        Raises:
            OSError: no descriptor or no memory is left for one that waits.
        """
        if self.server is None or len(self._clients) >= MOST:
            return None
        try:
            sock, _ = self.server.accept()
        except (BlockingIOError, ConnectionError):  # accept(2): nobody waits, or no longer
            return None
        return self.adopt(self._next, sock)

    def adopt(self, number: int, sock: socket.socket) -> Client:
        """Go on with a connection that an upgrade carried over."""
        sock.setblocking(False)
        client = Client(number, sock)
        self._clients[number] = client
        self._next = max(self._next, number) + 1
        return client

    def read(self, client: Client) -> list[Request]:
        """Return the complete requests of a client that is readable; bad ones are answered here. A closed client is forgotten."""
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            # A client may shut down its writing side and wait for the verdict; only what cannot be written to is gone.
            client.closing = True
            return []
        *lines, client.received = (client.received + data).split(b"\n")
        if len(client.received) > LONGEST:
            self.close(client)
            return []
        return [request for line in lines if line.strip() and (request := self._understand(client, line))]

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
        if not isinstance(command, str) or not isinstance(number, int) or isinstance(number, bool):
            self.reply(client.number, False, "not understood: command is a text, number a whole number")
            return None
        return Request(client.number, command, number)

    def reply(self, who: int, ok: bool, text: str, data: dict[str, Any] | None = None) -> None:
        """Answer a client; one that is gone is no error."""
        client = self._clients.get(who)
        if client is None:
            return
        client.pending = max(0, client.pending - 1)
        document = {"v": VERSION, "ok": ok, "text": text, **({"data": data} if data is not None else {})}
        client.unsent += json.dumps(document).encode() + b"\n"
        self.flush(client)

    def flush(self, client: Client) -> None:
        """Send what can be sent without waiting."""
        try:
            while client.unsent:
                client.unsent = client.unsent[client.sock.send(client.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.close(client)

    def interest(self, client: Client) -> int:
        """What to poll for: nothing to read any more from one that has said its last word."""
        return (0 if client.closing else selectors.EVENT_READ) | (selectors.EVENT_WRITE if client.unsent else 0)

    def close(self, client: Client) -> None:
        """Forget a client."""
        self._clients.pop(client.number, None)
        client.sock.close()

    def clients(self) -> list[Client]:
        """All of them."""
        return list(self._clients.values())

    def succeed(self, old: Control) -> None:
        """Take over the clients of the socket that this one replaces: they wait for their verdict here from now on."""
        self._clients, old._clients = old._clients, {}
        self._next = old._next
        old.end(unlink=True)

    def stop_listening(self, *, unlink: bool = True) -> None:
        """Close the socket and remove its file (only in the process that made it); clients stay until they are answered."""
        if self.server is None:
            return
        self.server.close()
        self.server = None
        if unlink and os.getpid() == self._pid:
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def end(self, *, unlink: bool) -> None:
        """Close everything; `unlink` removes the file too."""
        for client in self.clients():
            if os.getpid() == self._pid:  # a forked child says nothing in the parent's name
                self.flush(client)
            self.close(client)
        self.stop_listening(unlink=unlink)
