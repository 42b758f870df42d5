"""Writing an answer without a response object: a status line, headers, one bytes body.

WebOb's Response costs about 3 µs for a small JSON body (PEP 3333 needs none of it); most answers of an API have a body that is
known at once, so they are written from here. What the body says is decided elsewhere (`serializers`, `faults`).
"""

from __future__ import annotations

import http
import json
import uuid
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

Headers = list[tuple[str, str]]

STATUS_LINES: dict[int, str] = {status.value: f"{status.value} {status.phrase}" for status in http.HTTPStatus}
"""Code to status line, for every code that Python knows."""

BODILESS = frozenset({204, 304})
"""Codes whose answer has neither a body nor a Content-Length (RFC 9110, 8.6)."""


def status_line(code: int) -> str:
    """The status line of a code, also of one that nobody registered."""
    return STATUS_LINES.get(code) or f"{code} Status {code}"


def _plain(value: object) -> object:
    """JSON's idea of the values that an API has and json has not: times in ISO 8601 with their zone, ids as text."""
    if isinstance(value, datetime):
        if value.tzinfo is not None and value.utcoffset() == UTC.utcoffset(None):
            return value.replace(tzinfo=None).isoformat() + "Z"
        return value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain).encode


def json_bytes(document: Any) -> bytes:
    """A document as JSON: compact, ASCII, without NaN.

    Raises:
        TypeError: it holds something that has no form in JSON.
        ValueError: it holds NaN, an infinity, or itself.
    """
    return _encode(document).encode("ascii")


def one_line(value: str) -> str:
    """A header value in one line of latin-1: a CR or LF in it would start a header of the client's choice (RFC 9110, 5.5)."""
    return value.replace("\r", " ").replace("\n", " ").encode("latin-1", "replace").decode("latin-1")


def send(start_response: StartResponse, code: int, headers: Headers, body: bytes = b"") -> Iterable[bytes]:
    """Start an answer and return its body for the server.

    Args:
        start_response: the server's.
        code: the status code.
        headers: everything but Content-Length, which is added here; the list is the answer's afterwards.
        body: the whole body.
    """
    if code in BODILESS:
        headers[:] = [header for header in headers if header[0].lower() != "content-type"]
        body = b""
    else:
        headers.append(("Content-Length", str(len(body))))
        if not body and not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("Content-Type", "application/json"))  # as nova, and as wsgiref.validate wants it
    start_response(status_line(code), headers)
    return [body]


def send_json(
    environ: WSGIEnvironment, start_response: StartResponse, code: int, document: object, headers: Headers | None = None
) -> Iterable[bytes]:
    """Answer with a document as application/json. A HEAD gets the same head and no body (RFC 9110, 9.3.2)."""
    body = json_bytes(document)
    all_headers = [("Content-Type", "application/json"), *(headers or ())]
    all_headers.append(("Content-Length", str(len(body))))
    start_response(status_line(code), all_headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
