"""A request that is not served, and the bytes that say so to the client.

The parsers raise `Refusal`; the connection's protocol logs it, sends `response(...)` and closes. Nothing the client sent, no
version and no path of this host is echoed (promise S6); the shape is the JSON fault of the OpenStack APIs, so that a client
library reads the server's refusals as it reads the application's.
"""

from __future__ import annotations

import http
import json

FAULT_NAMES = {
    400: "badRequest",
    408: "requestTimeout",
    413: "overLimit",
    414: "uriTooLong",
    417: "expectationFailed",
    421: "misdirectedRequest",
    431: "headerFieldsTooLarge",
    500: "internalServerError",
    501: "notImplemented",
    503: "serviceUnavailable",
    505: "httpVersionNotSupported",
}
"""The key of the fault's one member. 400, 413, 501 and 503 are nova's; clients take the first value whatever its key."""

FALLBACK_NAME = "serverFault"

_PHRASES = {status.value: status.phrase for status in http.HTTPStatus} | {
    # RFC 9110's names, which http.HTTPStatus took over at different times
    413: "Content Too Large",
    414: "URI Too Long",
}


class Refusal(Exception):  # noqa: N818 -- what happened has a name in this house; it is no error of ours
    """A request that this server will not serve; the connection is closed after the answer.

    Attributes:
        status: the status code of the answer.
        reason: what was wrong, in words fixed in the source (never taken from the request): goes to the log and to the client.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        """`400 bare CR`."""
        return f"{self.status} {self.reason}"

    @property
    def phrase(self) -> str:
        """The reason phrase that RFC 9110 §15 gives the status."""
        return _PHRASES.get(self.status, "Unknown")


def response(refusal: Refusal, request_id: str, date: bytes = b"") -> bytes:
    """Make the whole answer to a refused request.

    Args:
        refusal: what to say.
        request_id: `req-…`, as the log line of the refusal has it.
        date: value of the Date field (IMF-fixdate); empty: the field is left out.

    Returns:
        Status line, fields and a JSON fault, to be sent as it is before the connection is closed (RFC 9112 §9.6).
    """
    name = FAULT_NAMES.get(refusal.status, FALLBACK_NAME)
    message = refusal.reason[:1].upper() + refusal.reason[1:]
    body = json.dumps({name: {"code": refusal.status, "message": message, "request_id": request_id}}).encode("ascii")
    lines = [f"HTTP/1.1 {refusal.status} {refusal.phrase}".encode("ascii")]
    if date:
        lines.append(b"Date: " + date)
    lines += [
        b"Content-Type: application/json; charset=UTF-8",
        b"Content-Length: %d" % len(body),
        b"X-Openstack-Request-Id: " + request_id.encode("latin-1"),
        b"Connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
