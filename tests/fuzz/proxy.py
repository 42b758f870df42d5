"""Fuzz target: the PROXY protocol. Invariants:

1. Never two readings: every prefix is incomplete until the header ends, or the refusal comes, and then nothing changes any more.
2. Never an exception but Refusal with status 400.
3. A header that is read took no more octets than there are, and its addresses and ports are such.
"""

from __future__ import annotations

import ipaddress
import sys

import atheris

with atheris.instrument_imports(include=["apid.server"]):
    from apid.server.protocol import proxy_protocol
    from apid.server.protocol.error_response import Refusal


def outcome(octets: bytes) -> object:
    """What reading gives: a header, None or the status of a refusal."""
    try:
        return proxy_protocol.read(octets)
    except Refusal as refusal:
        return refusal.status


def one_input(data: bytes) -> None:
    """The input is what a connection begins with."""
    octets = data[:600]
    whole = outcome(octets)
    assert whole is None or whole == 400 or isinstance(whole, proxy_protocol.Proxied)
    for end in range(len(octets) + 1):
        part = outcome(octets[:end])
        if part is not None:
            assert part == whole, (end, part, whole)
            break
    else:
        assert whole is None
    if isinstance(whole, proxy_protocol.Proxied):
        assert 8 <= whole.size <= len(octets)
        for end in filter(None, (whole.source, whole.destination)):
            ipaddress.ip_address(end[0])
            assert 0 <= end[1] <= 65535
        assert whole.source is None or not whole.own


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
