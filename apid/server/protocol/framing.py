"""What the fields of one head say together: where the content ends, whether the connection goes on, what is expected.

Read from the environ that request_head.py has filled; every rule here is one where two servers in a row that read differently
would see different requests, so what can be taken in two ways is refused (RFC 9112 §11.2).
"""

from __future__ import annotations

import re
from typing import Any

from apid.server.protocol import grammar
from apid.server.protocol.error_response import Refusal

Environ = dict[str, Any]

MAX_LENGTH_DIGITS = 18
"""Of a Content-Length without leading zeros; more does not fit in what the rest of the world keeps lengths in."""

SINGLE = {"HTTP_HOST": "Host", "CONTENT_LENGTH": "Content-Length", "CONTENT_TYPE": "Content-Type"}
"""Environ keys of fields that are refused when they come twice, and their names.

RFC 9112 §3.2 (Host) and §6.3 (Content-Length, also two that agree); of two content types an application would pick one.
"""

_DIGITS = re.compile(r"[0-9]+")


def combine(fields: list[tuple[str, str]]) -> Environ:
    """Make environ entries of fields of which some come twice or are dropped (RFC 9110 §5.2, §5.3).

    Raises:
        Refusal: 400, where a field that has one value comes twice.
    """
    found: dict[str, list[str]] = {}
    for name, value in fields:
        key = grammar.environ_key(name)
        if key is None:
            continue
        values = found.setdefault(key, [])
        if values and key in SINGLE:
            raise Refusal(400, f"{SINGLE[key]} occurs twice")
        values.append(value)
    # RFC 6265 §5.4 for Cookie: its values have commas
    return {key: ("; " if key == "HTTP_COOKIE" else ", ").join(values) for key, values in found.items()}


def content(environ: Environ, minor: int) -> tuple[int, bool]:
    """Tell how the content is framed (RFC 9112 §6.1, §6.2, §6.3), and put CONTENT_LENGTH or the coding in normal form.

    Returns:
        The length, 0 where there is no content or it is chunked; and whether it is chunked.

    Raises:
        Refusal: 400, 413, 501.
    """
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    length = environ.get("CONTENT_LENGTH")
    if coding is None:
        if length is None:
            return 0, False
        if not _DIGITS.fullmatch(length):
            raise Refusal(400, "the Content-Length is not one decimal number")
        digits = length.lstrip("0") or "0"
        if len(digits) > MAX_LENGTH_DIGITS:
            raise Refusal(413, "the Content-Length is beyond any content")
        environ["CONTENT_LENGTH"] = digits
        return int(digits), False
    if length is not None:
        raise Refusal(400, "both Transfer-Encoding and Content-Length")
    if minor == 0:
        raise Refusal(400, "Transfer-Encoding in a request of HTTP/1.0")
    codings = _members(coding)
    if codings[-1] != "chunked" or "chunked" in codings[:-1] or "" in codings:
        raise Refusal(400, "the last and only the last transfer coding has to be chunked")
    if len(codings) > 1:
        raise Refusal(501, "no transfer coding but chunked is implemented")
    environ["HTTP_TRANSFER_ENCODING"] = "chunked"
    return 0, True


def keeps_alive(environ: Environ, minor: int) -> bool:
    """Tell whether the client lets the connection go on, by a list in which `close` wins (RFC 9110 §7.6.1, RFC 9112 §9.3)."""
    options = _members(environ["HTTP_CONNECTION"])
    return "close" not in options and (minor == 1 or "keep-alive" in options)


def expects_continue(environ: Environ) -> bool:
    """Read Expect (RFC 9110 §10.1.1), of which there is one meaning in HTTP.

    Raises:
        Refusal: 417.
    """
    if set(_members(environ["HTTP_EXPECT"])) != {"100-continue"}:
        raise Refusal(417, "no expectation but 100-continue is known")
    return True


def _members(value: str) -> list[str]:
    return [member.strip(" \t").lower() for member in value.split(",")]
