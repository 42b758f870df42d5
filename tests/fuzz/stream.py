"""Fuzz target: the heads and contents of a connection. Invariants:

1. Never two readings: fed whole, octet by octet and cut where the input says, a stream gives the same requests and ending.
2. A head that repeats the one before means what it means alone.
3. Never an exception but Refusal, and its status is one that a refused request can have.
4. Never a hang: the work is bounded by the length (libFuzzer's -timeout sees to it).
5. A head that is let through is the grammar of RFC 9112, octet for octet, by a second and simpler description of it.
"""

from __future__ import annotations

import re
import sys

import atheris

with atheris.instrument_imports(include=["apid.server"]):
    from apid.server.protocol.error_response import Refusal
    from apid.server.protocol.request_head import Limits, Reader
    from tests.support import reading

STATUSES = {400, 413, 414, 417, 431, 501, 505}
LIMITS = (Limits(), Limits(max_request_line=64, max_header_line=64, max_headers=6, max_header_size=160))
HEAD = re.compile(
    rb"(?:\r\n){0,4}[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} [\x21\x22\x24-\x7e]+ HTTP/1\.[0-9]\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
)


def one_input(data: bytes) -> None:
    """The first octet chooses limits and cuts, the others are the stream."""
    if not data:
        return
    limits = LIMITS[data[0] & 1]
    octets = data[1:]
    whole = reading.read([octets], limits)
    assert isinstance(whole.ending, str) or whole.ending in STATUSES, whole.ending
    step = (data[0] >> 1) + 1
    assert reading.read(reading.pieces(octets, range(step, len(octets), step)), limits) == whole
    assert reading.read([bytes([octet]) for octet in octets], limits) == whole
    assert reading.read([octets], limits, Reader) == whole
    try:
        head = Reader(limits).read(octets, reading.TEMPLATE)
    except Refusal:
        return
    assert head is None or HEAD.fullmatch(octets[: head.size])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
