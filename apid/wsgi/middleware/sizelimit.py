"""The sizelimit filter: no request body beyond a size, whether the client says its length or not.

A Content-Length over the limit is answered 413 at once. Without a length the body is counted while the application reads it; the
read that goes over raises, and the answer is 413 where none has begun. Limits on heads are the server's.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apid.wsgi import faults, kinds
from apid.wsgi.factory import filter_factory, option

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "DELETE"})
_CHUNK = 65536


class BodyTooLarge(faults.TooLarge):
    """Raised in the application by the read that goes over; a type of its own, so that no other 413 is mistaken for ours."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say."""

    max_request_body_size: int = option(
        kinds.size(minimum=1),
        default=114688,
        aliases=["max_body_size", "osapi_max_request_body_size"],
        help="The largest request body that is let through.",
    )


class SizeLimit:
    """Refuse request bodies that are too large."""

    def __init__(self, app: WSGIApplication, options: Options) -> None:
        self._app = app
        self._limit = options.max_request_body_size

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        length = environ.get("CONTENT_LENGTH")
        if length:
            if not (length.isascii() and length.isdigit()):
                return faults.render(faults.BadRequest("Content-Length is not a number."), environ, start_response)
            if len(length) > 19 or int(length) > self._limit:
                return faults.render(self._too_large(), environ, start_response)
        if "HTTP_TRANSFER_ENCODING" in environ or (  # which overrides a length (RFC 9112, 6.3)
            # no server we know takes a body of these methods without saying so in a header
            not length and environ.get("wsgi.input_terminated") and environ["REQUEST_METHOD"] not in _BODILESS
        ):
            return self._counted(environ, start_response)
        return self._app(environ, start_response)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The request body is larger than {self._limit} bytes.")

    def _counted(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"] = CountedInput(environ["wsgi.input"], self._limit, self._too_large)
        try:
            body = self._app(environ, start_response)
        except BodyTooLarge:
            return _refused(environ, start_response)
        return body if isinstance(body, list | tuple) else _Body(body, environ, start_response)


def _refused(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer the exception being handled; when an answer has begun, the server raises it (PEP 3333, `exc_info`)."""
    caught = sys.exc_info()

    def start(status, headers, _=None):  # type: ignore[no-untyped-def] # StartResponse is a protocol with an optional argument
        return start_response(status, headers, caught)

    error = caught[1]
    assert error is not None  # noqa: S101 - only called while one is handled
    return faults.render(error, environ, start)


class _Body:
    """The application's body, where a generator may still be reading the request."""

    def __init__(self, body: Iterable[bytes], environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self._body = body
        self._environ = environ
        self._start_response = start_response

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except BodyTooLarge:
            yield from _refused(self._environ, self._start_response)

    def close(self) -> None:
        """PEP 3333: the server calls it, whatever happened."""
        close = getattr(self._body, "close", None)
        if close:
            close()


class CountedInput:
    """A `wsgi.input` that raises once more than `limit` bytes have come. It only calls `read(size)` of the one below."""

    def __init__(self, below: Any, limit: int, error: Any) -> None:
        self._below = below
        self._left = limit
        self._error = error
        self._kept = (
            b""  # read and not yet asked for, from `_at` on: cutting it at each line would copy the rest each time
        )
        self._at = 0

    def _more(self, size: int) -> bytes:
        if self._left >= 0:
            data: bytes = self._below.read(min(size, self._left + 1))
            self._left -= len(data)
        if self._left < 0:  # for good: an application that catches the error gets it again
            raise self._error()
        return data

    def _take(self, end: int) -> bytes:
        data, self._at = self._kept[self._at : end], end
        if self._at >= len(self._kept):
            self._kept, self._at = b"", 0
        return data

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, or to the end."""
        if size is not None and size >= 0:
            if self._kept:
                return self._take(min(self._at + size, len(self._kept)))
            return self._more(size) if size else b""
        parts = [self._take(len(self._kept))]
        while part := self._more(_CHUNK):
            parts.append(part)
        return b"".join(parts)

    def readline(self, size: int = -1) -> bytes:
        """Read a line, or at most `size` bytes of it."""
        parts: list[bytes] = []
        left = size if size is not None and size >= 0 else sys.maxsize
        while left:
            if not self._kept:
                self._kept = self._more(_CHUNK)
                if not self._kept:
                    break
            stop = min(len(self._kept), self._at + left)
            end = self._kept.find(b"\n", self._at, stop) + 1 or stop
            left -= end - self._at
            parts.append(self._take(end))
            if parts[-1].endswith(b"\n"):
                break
        return b"".join(parts)

    def readlines(self, hint: int = -1) -> list[bytes]:
        """Read the lines, until about `hint` bytes have come."""
        lines: list[bytes] = []
        found = 0
        while line := self.readline():
            lines.append(line)
            found += len(line)
            if hint is not None and 0 < hint <= found:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def __getattr__(self, name: str) -> Any:
        # a server's own extras of its input (eventlet's get_socket, set_hundred_continue_response_headers)
        return getattr(self._below, name)


factory = filter_factory("sizelimit", Options, SizeLimit)
