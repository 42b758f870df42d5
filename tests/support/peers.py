"""Reads a stream with two parsers that are not ours, h11 and httptools (llhttp), into the same shape.

For comparison only: what they make of a stream is evidence, not authority (docs/HTTP_PARSING.md says who is right where).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import h11
import httptools

from tests.support.reading import Reading


@dataclasses.dataclass(frozen=True)
class Reduced:
    """What can be compared between parsers: method, target and content of each request, and how the stream ends."""

    requests: tuple[tuple[str, str, bytes], ...]
    ending: str  # end, incomplete, refused

    @classmethod
    def of(cls, found: Reading) -> Reduced:
        """Take it from a reading of ours."""
        requests = tuple((request.method, request.target, request.body) for request in found.requests)
        return cls(requests, found.ending if isinstance(found.ending, str) else "refused")


def read_h11(octets: bytes) -> Reduced:
    """Read as a server that answers every request at once, with 501 so that CONNECT stays HTTP."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=90000)
    if octets:  # nothing means the end of the stream to h11
        connection.receive_data(octets)
    requests: list[tuple[str, str, bytes]] = []
    head: Any = None
    body = b""
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                waiting = head is not None or bool(connection.trailing_data[0].strip(b"\r\n"))
                return Reduced(tuple(requests), "incomplete" if waiting else "end")
            if event is h11.PAUSED:
                if head is None and connection.our_state is h11.MUST_CLOSE:
                    return Reduced(tuple(requests), "end")
                connection.start_next_cycle()
            elif isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                requests.append((head.method.decode(), head.target.decode("latin-1"), body))
                head = None
                connection.send(h11.Response(status_code=501, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return Reduced(tuple(requests), "end")
    except h11.RemoteProtocolError:
        return Reduced(tuple(requests), "refused")


class _Collector:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.parser: Any = None
        self.begun = False
        self.over = False
        self._target = b""
        self._body = b""

    def on_message_begin(self) -> None:
        self.begun = True
        self._target = self._body = b""

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        if self.over:
            return
        self.begun = False
        self.requests.append((self.parser.get_method().decode(), self._target.decode("latin-1"), self._body))
        self.over = not self.parser.should_keep_alive()


def read_httptools(octets: bytes) -> Reduced:
    """Read as uvicorn does, and stop after a request that closes the connection."""
    collector = _Collector()
    collector.parser = httptools.HttpRequestParser(collector)
    try:
        collector.parser.feed_data(octets)
    except httptools.HttpParserUpgrade:
        return Reduced(tuple(collector.requests), "end")
    except httptools.HttpParserError:
        return Reduced(tuple(collector.requests), "end" if collector.over else "refused")
    waiting = collector.begun and not collector.over
    return Reduced(tuple(collector.requests), "incomplete" if waiting else "end")
