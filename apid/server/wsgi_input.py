"""What an application reads its request's content from: `wsgi.input` and, the same object, `eventlet.input`.

The framing of the content is chunked.py's, the waiting stream.py's. Reading ends where the content ends, never in the next
request; a client that leaves in between is an error, not an end, so that half an upload is not taken for a whole one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from apid.server.protocol.chunked import ChunkDecoder
from apid.server.protocol.error_response import Refusal
from apid.server.protocol.request_head import Limits
from apid.server.protocol.response_head import check_field
from apid.server.stream import Stream

BLOCK = 65536
"""Octets asked of the socket at once where the application asks for more or for a line."""

MOST = 1 << 20
"""Octets asked of the socket at once at most: they are allocated before it is known how many there are."""

PROGRESS = 4096
"""Octets within client_socket_timeout that count as progress: one now and then does not (promise S2)."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n"


class WsgiInput:
    """The content of one request.

    Attributes:
        chunked_input: whether it comes in chunks (eventlet's name).
        position: octets of content that have been read.
        failure: why no more can be read; it is raised again at each attempt.
        answered: set once the head of the response is on its way: no 100 (Continue) after that.
        interim: sizes of the interim answers that were sent.
    """

    # Defaults of the class on purpose: an instance sets what differs, and most set nothing.
    _decoder: ChunkDecoder | None = None
    _left = 0
    _expects = False
    _held = b""  # received content that has not been asked for, from `_at` on
    _at = 0
    _gained = 0
    position = 0
    chunked_input = False
    failure: Exception | None = None
    answered = False
    hundred_continue_headers: list[tuple[str, str]] | None = None
    interim: tuple[int, ...] = ()
    _limits: Limits

    def __init__(self, stream: Stream) -> None:
        """Be the content of a request that has none: most requests are so."""
        self._stream = stream
        self.complete = True

    @classmethod
    def of(cls, stream: Stream, limits: Limits, length: int, *, chunked: bool, expects: bool) -> WsgiInput:
        """Make the content of a request that has some.

        Args:
            stream: where it comes from.
            limits: for chunks.
            length: in octets; of no meaning where it comes in chunks.
            chunked: it comes in chunks.
            expects: the client waits for 100 (Continue).
        """
        self = cls(stream)
        self._left = length
        self._limits = limits
        self._decoder = ChunkDecoder(limits) if chunked else None
        self._expects = expects
        self.chunked_input = chunked
        self.complete = False
        return self

    @property
    def content_length(self) -> int | None:
        """Octets of content, None where only its end will tell. Settable, for a protocol that has content without a length."""
        return None if self._decoder is not None else self.position + len(self._held) - self._at + self._left

    @content_length.setter
    def content_length(self, length: int) -> None:
        self._left = length - self.position - len(self._held) + self._at
        self.complete = self._left == 0

    @property
    def should_send_hundred_continue(self) -> bool:
        """Whether the client still waits for 100 (Continue)."""
        return self._expects

    @property
    def left(self) -> int:
        """Octets known to be still on the way."""
        return self._left if self._decoder is None else self._decoder.ahead

    def read(self, size: int | None = None) -> bytes:
        """Read `size` octets, or all; fewer only at the end.

        Raises:
            ClientGone, ClientSlow: from the connection.
            Refusal: the chunks are malformed.
        """
        if size is None or size < 0:
            return self._all()
        data = self._take(size)
        have = len(data)
        if have < size:
            parts = [data] if data else []
            while have < size and (more := self._more(size - have)):
                if len(more) > size - have:
                    self._held, self._at = more, size - have
                    more = more[: size - have]
                parts.append(more)
                have += len(more)
            data = parts[0] if len(parts) == 1 else b"".join(parts)
        self.position += have
        if not have:
            self._stream.moved()
        return data

    def _take(self, size: int) -> bytes:
        """Take what is held already, `size` octets at most."""
        held, at = self._held, self._at
        if len(held) - at > size:
            self._at = at + size
            return held[at : at + size]
        self._held, self._at = b"", 0
        return held[at:]

    def _all(self) -> bytes:
        parts = [self._take(len(self._held))]
        while data := self._more(BLOCK if self._decoder is not None else MOST // 2):
            parts.append(data)
        data = b"".join(parts)
        self.position += len(data)
        if not data:
            self._stream.moved()
        return data

    def readline(self, size: int | None = None) -> bytes:
        """Read up to and with the next LF, `size` octets at most. Raises as `read`."""
        limit = -1 if size is None or size < 0 else size
        parts: list[bytes] = []
        have = 0
        while limit < 0 or have < limit:
            if not self._held:
                self._held = self._more(BLOCK)
                if not self._held:
                    break
            at, stop = self._at, len(self._held)
            if limit >= 0:
                stop = min(stop, at + limit - have)
            end = self._held.find(b"\n", at, stop) + 1 or stop
            parts.append(self._take(end - at))
            have += end - at
            if parts[-1][-1:] == b"\n":
                break
        self.position += have
        if not have:
            self._stream.moved()
        return b"".join(parts)

    def readlines(self, hint: int | None = None) -> list[bytes]:
        """Read lines, and stop after `hint` octets. Raises as `read`."""
        lines = []
        total = 0
        for line in iter(self.readline, b""):
            lines.append(line)
            total += len(line)
            if hint and 0 < hint <= total:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        """Line by line, as PEP 3333 has it."""
        return iter(self.readline, b"")

    def _more(self, wanted: int) -> bytes:
        """The next octets of content, maybe more than are wanted; empty at the end."""
        if self.failure is not None:
            raise self.failure
        if self.complete or not wanted:
            return b""
        if self._expects:
            self.send_hundred_continue_response()
        try:
            return self._next(wanted)
        except Exception as error:
            self.failure = error
            raise

    def _next(self, wanted: int) -> bytes:
        stream = self._stream
        decoder = self._decoder
        while True:
            if decoder is None:
                received = content = stream.receive(min(self._left, wanted))
                self._left -= len(content)
                self.complete = self._left == 0
            else:
                received = stream.receive(min(max(wanted, 16384), BLOCK))
                pieces = decoder.feed(received)
                content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                if decoder.done:
                    self.complete = True
                    stream.buffer = decoder.rest + bytes(stream.buffer)
            if not received:
                raise stream.gone()
            self._gained += len(received)
            if self._gained >= PROGRESS or self.complete:
                self._gained = 0
                stream.progress()
            stream.moved()
            if content or self.complete:
                return content

    def send_hundred_continue_response(self) -> None:
        """Let the client send the content; nothing where the answer is on its way already.

        Called by an application after the last chunk, it announces that another chunked content is awaited: Swift's two-phase
        PUT does this with its own clients, and eventlet's server has it.
        """
        self._expects = False
        if self.answered:
            return
        if self._decoder is not None and self._decoder.done:
            self._decoder = ChunkDecoder(self._limits)
            self.complete = False
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.hundred_continue_headers or ())
        data = CONTINUE + fields.encode("latin-1") + b"\r\n"
        self._stream.send(data)
        self.interim += (len(data),)

    def set_hundred_continue_response_headers(
        self, headers: Iterable[tuple[str, str]], capitalize_response_headers: bool = True
    ) -> None:
        """Set the fields of the 100 (Continue) response (eventlet's interface).

        Raises:
            ValueError: a name or value that would break the response.
        """
        fields = []
        for name, value in headers:
            check_field(name, value)
            spelled = "-".join(part.capitalize() for part in name.split("-")) if capitalize_response_headers else name
            fields.append((spelled, value))
        self.hundred_continue_headers = fields

    def get_socket(self) -> Any:
        """Take the connection over, for protocols that begin as HTTP; it ends with this request."""
        return self._stream.detach()

    def discard(self, limit: int) -> bool:
        """Read what the application has not read and throw it away; False: it is more than `limit`, or broken."""
        if self.complete:
            return True
        if self.failure is not None or self._expects or self.left > limit:
            return False
        while limit > 0 and not self.complete:
            try:
                limit -= len(self._more(BLOCK))
            except (OSError, Refusal):
                return False
        return self.complete
