"""The request line: method, the four forms of a request target, version (RFC 9112 §3).

`parse` is the complete reading; request_head.py has a pattern that reads the ordinary line faster and hands over everything else.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import NamedTuple

from apid import hosts
from apid.server.protocol import grammar
from apid.server.protocol.error_response import Refusal

MAX_METHOD = 32
"""The longest method of IANA's registry has 17 letters."""

_VERSION = re.compile(r"HTTP/([0-9])\.([0-9])")
_ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):(?://([^/?]*))?(.*)")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class RequestLine(NamedTuple):
    """A request line, read.

    Attributes:
        method: as sent; methods are case-sensitive.
        target: as sent.
        path: the path of the target, escapes as sent; `*` for the server as a whole.
        query: what follows the first `?`, as sent.
        authority: of an absolute-form target, else None; it takes the place of the Host field (RFC 9112 §3.2.2).
        minor: 0 or 1; a higher minor version is read as 1 (RFC 9110 §2.5).
    """

    method: str
    target: str
    path: str
    query: str
    authority: str | None
    minor: int


def parse(line: str) -> RequestLine:
    """Read a request line without its CRLF, whose octets are known to be printable ASCII and SP.

    Raises:
        Refusal: 400, 501 (CONNECT, a method out of all proportion) or 505.
    """
    # Exactly two SP: RFC 9112 §3 lets a server be lenient about whitespace here and says what comes of it (§11.2).
    parts = line.split(" ")
    if len(parts) != 3:
        raise Refusal(400, "the request line is not method, target and version with single spaces")
    method, target, version = parts
    if not grammar.is_token(method):
        raise Refusal(400, "the method is not a token")
    minor = _minor(version)
    if len(method) > MAX_METHOD:
        raise Refusal(501, "the method is too long to be one of HTTP's")
    if "#" in target:
        raise Refusal(400, "the request target has a fragment")
    if method == "CONNECT":
        # RFC 9110 §9.3.6: for proxies. Authority-form is for nothing else (RFC 9112 §3.2.3).
        if ":" in target and hosts.is_authority(target):
            raise Refusal(501, "CONNECT is not implemented: this is no proxy")
        raise Refusal(400, "the target of CONNECT is not an authority")
    if target == "*":
        if method != "OPTIONS":
            raise Refusal(400, "the target * is for OPTIONS only")
        return RequestLine(method, target, "*", "", None, minor)
    authority = None
    rest = target
    if not target.startswith("/"):
        authority, rest = _absolute(target)
    path, _, query = rest.partition("?")
    if not path:
        # RFC 9112 §3.2.4: the last proxy turns OPTIONS without path and query into `*`; to an origin it means the same.
        path = "*" if method == "OPTIONS" and "?" not in rest else "/"
    check_escapes(path)
    return RequestLine(method, target, path, query, authority, minor)


def _minor(version: str) -> int:
    found = _VERSION.fullmatch(version)
    if found is None:
        raise Refusal(400, "the HTTP version is malformed")
    if found[1] != "1":
        raise Refusal(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    return min(int(found[2]), 1)


def _absolute(target: str) -> tuple[str, str]:
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise Refusal(400, "the request target is neither a path nor a URI")
    scheme, authority, rest = found.groups()
    if scheme.lower() not in ("http", "https"):
        raise Refusal(400, "the request target is a URI of another scheme than http")
    if authority is None or not hosts.is_authority(authority):
        raise Refusal(400, "the request target has no valid host")
    return authority, rest


def check_escapes(path: str) -> None:
    """See that each `%` of a path begins an escape (RFC 3986 §2.1). `%00` is one: Swift names its reserved containers by it.

    Raises:
        Refusal: 400.
    """
    if _BAD_ESCAPE.search(path):
        raise Refusal(400, "the path has a percent sign that escapes nothing")


def unescape(path: str) -> str:
    """Decode the escapes of a path into PEP 3333's str of latin-1 code points."""
    return urllib.parse.unquote_to_bytes(path).decode("latin-1")
