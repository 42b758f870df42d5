"""A client of bytes: it sends exactly what it is told and reads one answer at a time, strictly (RFC 9112).

No pooling, no retries, no redirects: what the server did is what the test sees. TCP, UNIX sockets and TLS.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import ssl
import struct
from typing import Any, Self

Address = tuple[str, int] | str | os.PathLike[str]
"""(host, port), or the path of a UNIX socket."""


class AnswerError(Exception):
    """The peer's bytes are no complete answer."""


class NoAnswer(AnswerError):
    """The connection ended before the first byte of an answer."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One response as read from the wire."""

    version: str
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    chunked: bool = False

    def header(self, name: str) -> str | None:
        """The value of a header, several joined by a comma; None when absent."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    @property
    def closes(self) -> bool:
        """Whether the answer announces the end of the connection."""
        tokens = [token.strip().lower() for token in (self.header("Connection") or "").split(",")]
        return "close" in tokens or (self.version == "HTTP/1.0" and "keep-alive" not in tokens)

    @property
    def text(self) -> str:
        """The body, decoded."""
        return self.body.decode()

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Connection:
    """One connection. Use it with `with`, or close it."""

    def __init__(
        self,
        address: Address,
        *,
        timeout: float = 10.0,
        tls: ssl.SSLContext | None = None,
        name: str = "localhost",
        source: str = "",
    ) -> None:
        if isinstance(address, tuple):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            target: Any = address
        else:
            family, target = socket.AF_UNIX, os.fspath(address)
        plain = socket.socket(family, socket.SOCK_STREAM)
        try:
            plain.settimeout(timeout)
            if source:
                plain.bind((source, 0))
            plain.connect(target)
            if family != socket.AF_UNIX:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = tls.wrap_socket(plain, server_hostname=name) if tls else plain
        except BaseException:
            plain.close()
            raise
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close; what is unread is thrown away."""
        self.sock.close()

    def reset(self) -> None:
        """End with a RST instead of a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send these bytes, all of them."""
        self.sock.sendall(data)

    def request(
        self, method: str = "GET", path: str = "/", *, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send one well-formed HTTP/1.1 request and return its answer."""
        self.send(request_bytes(method, path, headers=headers, body=body))
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        """Read one final answer; interim ones (1xx) are skipped.

        Raises:
            NoAnswer: the end came before the first byte.
            AnswerError: the bytes are no answer, or end too early.
            TimeoutError, ConnectionResetError: as they come.
        """
        while True:
            head = self._until(b"\r\n\r\n")
            version, status, reason, headers = parse_head(head)
            if status >= 200 or status == 101:
                body, chunked = self._body(method, status, headers)
                return Answer(version, status, reason, headers, body, chunked)

    def interim(self) -> bool:
        """Wait for 100 (Continue) and take it; False: the final answer has begun instead, and is still to be read."""
        while b"\r\n\r\n" not in self._unread:
            self._more()
        if not self._unread.startswith(b"HTTP/1.1 100 "):
            return False
        self._until(b"\r\n\r\n")
        return True

    def ended(self) -> bool:
        """Whether the peer has ended the connection and nothing is left to read; never waits."""
        if self._unread:
            return False
        timeout = self.sock.gettimeout()
        self.sock.setblocking(False)
        try:
            self._unread = self.sock.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except ConnectionResetError:
            return True
        finally:
            self.sock.settimeout(timeout)
        return not self._unread

    def rest(self) -> bytes:
        """Read to the end of the connection. A reset counts as an end."""
        parts = [self._unread]
        self._unread = b""
        with contextlib.suppress(ConnectionResetError):
            while data := self.sock.recv(65536):
                parts.append(data)
        return b"".join(parts)

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            if self._unread:
                raise AnswerError(f"the connection ended within an answer, after {self._unread[:200]!r}")
            raise NoAnswer("the connection ended with no answer")
        self._unread += data

    def _until(self, mark: bytes) -> bytes:
        while (at := self._unread.find(mark)) < 0:
            self._more()
        data, self._unread = self._unread[:at], self._unread[at + len(mark) :]
        return data

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            if not self._unread:
                self._unread = self.sock.recv(min(max(count, 1), 1 << 20))
                if not self._unread:
                    raise AnswerError(f"the connection ended {count} bytes before the end of the body")
            part, self._unread = self._unread[:count], self._unread[count:]
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _body(self, method: str, status: int, headers: tuple[tuple[str, str], ...]) -> tuple[bytes, bool]:
        fields = {name.lower(): value for name, value in headers}
        if method == "HEAD" or status in {204, 304} or status == 101:
            return b"", False
        if fields.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int(self._until(b"\r\n").split(b";")[0], 16):
                parts.append(self._exactly(size))
                if self._exactly(2) != b"\r\n":
                    raise AnswerError("no line end after a chunk")
            while self._until(b"\r\n"):
                pass
            return b"".join(parts), True
        if "content-length" in fields:
            return self._exactly(int(fields["content-length"])), False
        return self.rest(), False


def parse_head(head: bytes) -> tuple[str, int, str, tuple[tuple[str, str], ...]]:
    """Return version, status, reason and headers of a response head without its empty line."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise AnswerError(f"not a status line: {lines[0][:200]!r}")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise AnswerError(f"not a header line: {line[:200]!r}")
        headers.append((name, value.strip()))
    return words[0], int(words[1]), words[2] if len(words) > 2 else "", tuple(headers)


def request_bytes(
    method: str = "GET",
    path: str = "/",
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    host: str = "localhost",
) -> bytes:
    """Return a well-formed HTTP/1.1 request."""
    fields = {"Host": host, **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def get(address: Address, path: str = "/", *, headers: dict[str, str] | None = None, timeout: float = 10.0) -> Answer:
    """GET over a connection of its own, closed afterwards."""
    with Connection(address, timeout=timeout) as connection:
        return connection.request("GET", path, headers={"Connection": "close", **(headers or {})})
