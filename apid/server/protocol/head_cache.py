"""Heads that repeat: most requests of a keep-alive connection have the very fields of the one before.

A client sends its Host, User-Agent, Accept and token again and again; HTTP/2 has HPACK for that. Here the octets of the field
section are compared with the last ones of the connection: where they are the same, so is what they mean, and only the request
line is read. It is remembered at the first repetition, so that a client that never repeats pays for a comparison. And who asks
the very same again, as health checks and polling clients do, has the whole request compared, and nothing is read.

Pure, and without grammar of its own but for the plainest request line: everything else is request_head.py's to read or to refuse.
"""

from __future__ import annotations

import re
from typing import Any

from apid.server.protocol.request_head import Head, Limits, Reader

Environ = dict[str, Any]

# A subset of request_head.py's: no escape, no fragment, a method of letters; what does not match is read there.
_LINE = re.compile(r"([A-Z]{1,16}) ((/[!\"$&->@-~]*+)(?:\?([!\"$&-~]*+))?) HTTP/1\.1")
_SHORTEST = len("G / HTTP/1.1")


class RepeatingReader:
    """As `head.Reader`, for a connection whose template never changes."""

    __slots__ = (
        "_again",
        "_base",
        "_fields",
        "_last",
        "_limit",
        "_line",
        "_model",
        "_partial",
        "_reader",
        "_same",
        "_whole",
    )

    def __init__(self, limits: Limits) -> None:
        self._reader = Reader(limits)
        self._limit = limits.max_request_line
        self._partial = False  # the reader is in the middle of a head
        self._last = b""  # the field section of the last head
        self._fields = b""  # the one that is remembered: its octets, the environ with it, and the head with its flags
        self._base: Environ = {}
        self._model: Head | None = None
        self._line = b""  # the last request line before remembered fields
        self._whole: bytes | None = None  # a whole head that is remembered, what was made of it, and its environ
        self._again: Head
        self._same: Environ = {}

    @property
    def begun(self) -> bool:
        """Whether part of a head has been seen."""
        return self._reader.begun

    def read(self, buffer: bytes | bytearray, template: Environ) -> Head | None:
        """Read the head at the beginning of a buffer; arguments, result and errors are those of `Reader.read`."""
        if self._whole is not None and buffer.startswith(self._whole) and not self._partial:
            again = self._again  # nobody has it any more: a connection serves one request at a time
            again.environ = self._same.copy()
            return again
        model = self._model
        if model is not None and not self._partial:
            end = buffer.find(b"\r\n", 0, self._limit + 2)
            if end > 0 and buffer.startswith(self._fields, end + 2):
                line = bytes(buffer[:end])
                found = _LINE.fullmatch(str(line, "latin-1"))
                if found is not None and found[1] != "CONNECT":
                    return self._repeat(model, found, line)
        made = self._reader.read(buffer, template)
        self._partial = made is None
        if made is not None:
            self._learn(buffer, made)
        return made

    def _repeat(self, model: Head, found: re.Match[str], line: bytes) -> Head:
        environ = self._base.copy()
        method, requested, path, query = found.groups()
        environ["REQUEST_METHOD"] = method
        environ["PATH_INFO"] = environ["RAW_PATH_INFO"] = path
        environ["QUERY_STRING"] = query or ""
        made = Head(environ, method, requested, 1, len(line) + 2 + len(self._fields), line)
        made.keep_alive = model.keep_alive
        made.content_length = model.content_length
        made.chunked = model.chunked
        made.expect_continue = model.expect_continue
        if line == self._line:
            self._whole = line + b"\r\n" + self._fields
            self._again = made
            self._same = environ.copy()
        self._line = line
        return made

    def _learn(self, buffer: bytes | bytearray, made: Head) -> None:
        end = buffer.find(b"\r\n")
        # Not after ignored empty lines, not in HTTP/1.0, and not where the target has replaced the Host.
        if end < _SHORTEST or made.minor != 1 or made.target[:1] != "/":
            return
        fields = bytes(buffer[end + 2 : made.size])
        if fields == self._last:
            self._fields = fields
            self._base = made.environ.copy()
            self._model = made
            self._line = b""
        self._last = fields
