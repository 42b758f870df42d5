"""The protocols that a TLS client offers (ALPN, RFC 7301), read from its client hello (RFC 8446 §4.1.2); octets in, values out.

By RFC 7301 §3.2 a server refuses a client that offers only other protocols. Python's ssl module accepts it and does not report
the offer afterwards, so the octets are read here before OpenSSL reads them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

MOST = 8192
"""Octets that are looked at, in at most `RECORDS` records and with at most `MANY` extensions and names: each packet brings
another look, which must cost less than a handshake. A larger client hello, and anything else, is left to OpenSSL."""

RECORDS = 8
MANY = 64

NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"
"""The record of that fatal alert (RFC 8446 §6)."""

_HANDSHAKE, _CLIENT_HELLO, _ALPN = 22, 1, 16


def protocols(data: bytes) -> list[bytes] | None:
    """Return what is offered; None: there are more octets to come.

    An empty list: nothing is offered, or the octets are wrong, which OpenSSL reports.
    """
    message = bytearray()
    at = 0
    for _ in range(RECORDS):
        if data[at : at + 1] not in (b"", bytes([_HANDSHAKE])):
            break
        end = at + 5 + int.from_bytes(data[at + 3 : at + 5], "big")
        if len(data) < at + 5 or len(data) < end:
            return None if len(data) < MOST else []
        message += data[at + 5 : end]  # one message may lie in several records
        if end == at + 5 or message[0] != _CLIENT_HELLO:
            break
        size = 4 + int.from_bytes(message[1:4], "big")
        if 4 <= len(message) >= size:
            with contextlib.suppress(ValueError):
                return list(_offered(memoryview(message)[4:size]))
            break
        at = end
    return []


def _offered(hello: memoryview) -> Iterator[bytes]:
    rest = hello[34:]  # version and random
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        _, rest = _vector(rest, width)
    extensions = _vector(rest, 2)[0] if rest else rest
    left = MANY
    while extensions:
        kind = int.from_bytes(extensions[:2], "big")
        content, extensions = _vector(extensions[2:], 2)
        names = _vector(content, 2)[0] if kind == _ALPN else content[:0]
        while names and left > 0:
            name, names = _vector(names, 1)
            yield bytes(name)
            left -= 1
        left -= 1
        if left < 0:
            raise ValueError("more than are read")


def _vector(data: memoryview, width: int) -> tuple[memoryview, memoryview]:
    """Split at the end of a vector whose length takes `width` octets."""
    end = width + int.from_bytes(data[:width], "big")
    if len(data) < width or len(data) < end:
        raise ValueError("the vector ends early")
    return data[width:end], data[end:]
