"""Reads a stream with the parsers alone, the way a connection does, cut wherever one likes.

Used by the corpus tests, the property tests and the fuzz target: the outcome of a stream must be the same for all cuts.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from apid.server.protocol.chunked import ChunkDecoder
from apid.server.protocol.error_response import Refusal
from apid.server.protocol.head_cache import RepeatingReader
from apid.server.protocol.request_head import Head, Limits, Reader

TEMPLATE: dict[str, Any] = {"wsgi.version": (1, 0), "SERVER_NAME": "localhost", "SERVER_PORT": "80"}


@dataclasses.dataclass(frozen=True)
class Request:
    """One request as the parsers read it."""

    line: bytes
    after_empty_line: bool
    method: str
    target: str
    environ: dict[str, Any]
    keep_alive: bool
    expect_continue: bool
    chunked: bool
    body: bytes
    trailers: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a stream is: complete requests and how it ends."""

    requests: tuple[Request, ...]
    ending: int | str
    reason: str = ""


def pieces(octets: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut a stream at the given places."""
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(octets)}), len(octets)]
    return [octets[begin:end] for begin, end in itertools.pairwise(places)]


def read(
    parts: Sequence[bytes], limits: Limits | None = None, reader: type[Reader | RepeatingReader] = RepeatingReader
) -> Reading:
    """Read a stream that arrives in these parts; the engine uses the reader that is the default here."""
    connection = _Connection(limits or Limits(), reader)
    try:
        for part in parts:
            connection.receive(part)
    except Refusal as refusal:
        return Reading(tuple(connection.requests), refusal.status, refusal.reason)
    return Reading(tuple(connection.requests), "incomplete" if connection.waiting else "end")


class _LengthDecoder:
    """Content of a known length, in the shape of ChunkDecoder."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.rest = b""

    @property
    def done(self) -> bool:
        return self._left == 0

    def feed(self, data: bytes) -> list[bytes]:
        piece = data[: self._left]
        self.rest += data[self._left :]
        self._left -= len(piece)
        return [piece]


class _Connection:
    def __init__(self, limits: Limits, reader: type[Reader | RepeatingReader]) -> None:
        self.requests: list[Request] = []
        self._limits = limits
        self._reader = reader(limits)
        self._buffer = bytearray()
        self._head: Head | None = None
        self._after_empty_line = False
        self._decoder: ChunkDecoder | _LengthDecoder | None = None
        self._body: list[bytes] = []
        self._over = False

    @property
    def waiting(self) -> bool:
        return not self._over and (self._head is not None or self._reader.begun)

    def receive(self, part: bytes) -> None:
        data = part
        while not self._over:
            if self._head is None:
                self._buffer += data
                data = b""
                head = self._reader.read(self._buffer, TEMPLATE)
                if head is None:
                    return
                data = bytes(self._buffer[head.size :])
                self._after_empty_line = self._buffer.startswith(b"\r\n")
                self._buffer.clear()
                self._head = head
                self._decoder = ChunkDecoder(self._limits) if head.chunked else _LengthDecoder(head.content_length)
            assert self._decoder is not None
            self._body += self._decoder.feed(data)
            if not self._decoder.done:
                return
            data = self._decoder.rest
            self._finish(self._head)

    def _finish(self, head: Head) -> None:
        trailers = tuple(self._decoder.trailers) if isinstance(self._decoder, ChunkDecoder) else ()
        self.requests.append(
            Request(
                head.line,
                self._after_empty_line,
                head.method,
                head.target,
                head.environ,
                head.keep_alive,
                head.expect_continue,
                head.chunked,
                b"".join(self._body),
                trailers,
            )
        )
        self._head = self._decoder = None
        self._body = []
        self._over = not head.keep_alive
