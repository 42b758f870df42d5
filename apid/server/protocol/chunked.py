"""The content of a request in chunks, cut out of the received bytes (RFC 9112 §7.1).

`feed` takes what was received and gives the content in it as pieces; once `done`, `rest` is what belongs to the next request.
Pure: no socket and no deadline; who limits the size of content does that over this. Content of a known length needs no decoder.

Chunked coding is where parsers were made to disagree (sizes like 0x3 or -1, bare LF after an extension, octets between data
and CRLF), so nothing is repaired here: what is not the grammar is refused. A piece is copied once, out of the received bytes;
a received block that is all content is handed on as it is.
"""

from __future__ import annotations

import enum
import re

from apid.server.protocol import grammar
from apid.server.protocol.error_response import Refusal
from apid.server.protocol.request_head import Limits, check_field

MAX_SIZE_DIGITS = 16
"""Hexadecimal digits of a chunk size: 64 bits (RFC 9112 §7.1: no overflow, no loss of precision)."""

MAX_SIZE_LINE = 1024
"""Octets of a chunk-size line with its extensions."""

MAX_EXTENSIONS = 16384
"""Octets of all chunk extensions of one content (RFC 9112 §7.1.1 asks for a limit on the total)."""

_T = grammar.TOKEN
_PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
# No possessive quantifier on a group: before 3.11.5 it matches what it must not (CPython gh-106052). None is needed: each
# alternative begins with another octet, so nothing here can be read in two ways.
_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE_LINE = re.compile(
    rf"([0-9A-Fa-f]++)((?:[ \t]*+;[ \t]*+{_T}++(?:[ \t]*+=[ \t]*+(?:{_T}++|{_QUOTED}))?)*)"  # RFC 9112 §7.1, §7.1.1
)


class _Part(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILER = enum.auto()
    DONE = enum.auto()


class ChunkDecoder:
    """Content in chunks.

    Attributes:
        ahead: octets of the present chunk still to come; 0 between chunks: how much may be asked of the socket at once.
        done: whether the last chunk and the trailer section have been fed.
        rest: once done, what was fed beyond them.
        trailers: name (as sent) and value of the trailer fields. They are never merged into the environ: RFC 9110 §6.5.1
            allows that only to who knows the field, and a smuggled X-Auth-Token would come this way.
    """

    __slots__ = ("_extensions", "_held", "_limits", "_matched", "_part", "_section", "ahead", "rest", "trailers")

    def __init__(self, limits: Limits) -> None:
        self.ahead = 0
        self.rest = b""
        self.trailers: list[tuple[str, str]] = []
        self._limits = limits
        self._part = _Part.SIZE
        self._held = bytearray()  # of a line that has not ended
        self._matched = 0  # octets of the CRLF after the data that have been fed
        self._extensions = 0
        self._section = 0  # octets of the trailer section

    @property
    def done(self) -> bool:
        """Whether nothing of this content is to come."""
        return self._part is _Part.DONE

    def feed(self, data: bytes) -> list[bytes]:
        """Take received octets, give the content in them; after `done`, octets only go to `rest`.

        Raises:
            Refusal: 400, or 431 for a trailer section beyond the limits. The content is not complete and will never be.
        """
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            part = self._part
            if part is _Part.DATA:
                at = self._data(data, at, pieces)
            elif part is _Part.DATA_END:
                at = self._data_end(data, at)
            elif part is _Part.SIZE:
                at = self._size(data, at)
            elif part is _Part.TRAILER:
                at = self._trailer(data, at)
            else:
                self.rest += data[at:]
                break
        return pieces

    def _data(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        until = at + self.ahead
        piece = data[at:until]  # all of it: the same object, no copy
        pieces.append(piece)
        self.ahead -= len(piece)
        if self.ahead:
            return until
        if data[until : until + 2] == b"\r\n":
            self._part = _Part.SIZE
            return until + 2
        self._part = _Part.DATA_END
        return until

    def _data_end(self, data: bytes, at: int) -> int:
        if data[at] != b"\r\n"[self._matched]:
            raise Refusal(400, "octets between a chunk's data and its CRLF")
        self._matched += 1
        if self._matched == 2:
            self._matched = 0
            self._part = _Part.SIZE
        return at + 1

    def _size(self, data: bytes, at: int) -> int:
        found = None if self._held else _PLAIN_SIZE.match(data, at)
        if found is not None:
            self._begin_chunk(int(found[1], 16))
            return found.end()
        line, at = self._line(data, at, MAX_SIZE_LINE, 400, "a chunk size")
        if line is not None:
            parts = _SIZE_LINE.fullmatch(line)
            if parts is None or len(parts[1]) > MAX_SIZE_DIGITS:
                raise Refusal(400, "a chunk size that is not one, or a malformed chunk extension")
            self._extensions += len(parts[2])
            if self._extensions > MAX_EXTENSIONS:
                raise Refusal(400, "more chunk extensions than this server reads")
            self._begin_chunk(int(parts[1], 16))
        return at

    def _begin_chunk(self, size: int) -> None:
        self.ahead = size
        self._part = _Part.DATA if size else _Part.TRAILER

    def _trailer(self, data: bytes, at: int) -> int:
        limits = self._limits
        first = self._held[0] if self._held else data[at]
        if len(self.trailers) >= limits.max_headers and first not in b"\r\n":
            raise Refusal(431, "more trailer fields than this server reads")
        limit = max(0, min(limits.max_header_line, limits.max_header_size - self._section - 2))
        line, at = self._line(data, at, limit, 431, "a trailer field")
        if line == "":
            self._part = _Part.DONE
        elif line is not None:
            check_field(line)
            self._section += len(line) + 2
            name, _, value = line.partition(":")
            self.trailers.append((name, value.strip(" \t")))
        return at

    def _line(self, data: bytes, at: int, limit: int, over: int, what: str) -> tuple[str | None, int]:
        """Take a line, or the next part of one.

        As the walk of request_head.py: an illegal octet counts before a length beyond the limit if it comes first, so that the
        outcome does not depend on how the stream was cut.

        Returns:
            The line without CRLF, or None where it has not ended; and where in the data to go on.
        """
        held = self._held
        stop = at + limit + 2 - len(held)
        feed = data.find(b"\n", at, stop)
        until = min(len(data), stop) if feed < 0 else feed + 1
        seen = max(0, len(held) - 1)
        held += data[at:until]
        found = grammar.ILLEGAL_IN_FIELD.search(held, seen)
        if found is not None and found.start() <= limit:
            raise Refusal(400, f"bare CR, bare LF or a control character in {what}")
        # A LF with no CR before it is here only where it is itself beyond the limit.
        length = len(held) - (feed >= 0)
        length -= length > 0 and held[length - 1] == 13
        if length > limit:
            raise Refusal(over, f"{what} is too long")
        if feed < 0:
            return None, until
        line = str(held[:-2], "latin-1")
        held.clear()
        return line, until
