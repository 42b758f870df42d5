"""The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): who is at the other end of a proxied connection.

Pure: bytes in, values out. Whether a peer may speak it at all (option proxy_protocol, trusted_proxies) is decided by who calls;
where it is expected it has to come: the document forbids guessing (§2, "must not try to guess").
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re

from apid.forwarded import UNKNOWN, UNKNOWN_PORT
from apid.hosts import one_spelling
from apid.server.protocol.error_response import Refusal

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""The first twelve octets of version 2 (§2.2)."""

MAX_V1 = 107
"""Octets of the longest line of version 1 with its CRLF (§2.1)."""

MAX_V2 = 16384
"""Octets after the fixed part of version 2 that are read: a certificate fits, the 65535 of the length field do not."""

_V1 = re.compile(rb"PROXY (TCP[46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([1-9][0-9]{0,4}|0) ([1-9][0-9]{0,4}|0)")
_ADDRESSES = {0x11: 4, 0x21: 16}  # TCP over IPv4, TCP over IPv6: octets of one address
_KNOWN_FAMILIES = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}  # octets of the address block


@dataclasses.dataclass(frozen=True, slots=True)
class Proxied:
    """What a PROXY header said.

    Attributes:
        size: octets that it took from the beginning of the buffer.
        own: whether the connection is the proxy's own (LOCAL, such as a health check): the client is the connection's peer.
        source: address and port of the client; None if the connection is the proxy's own, and if the header has no address that
            can be used (UNKNOWN, UNSPEC, UNIX, datagrams). In the latter case the document suggests the connection's peer,
            which would turn a client that is not known into its proxy.
        destination: address and port that the client connected to; None as above.
    """

    size: int
    source: tuple[str, int] | None = None
    destination: tuple[str, int] | None = None
    own: bool = False

    @property
    def client(self) -> tuple[str, str]:
        """REMOTE_ADDR and REMOTE_PORT of a connection that is not the proxy's own."""
        host, port = self.source or (UNKNOWN, UNKNOWN_PORT)
        return host, str(port)


def read(buffer: bytes | bytearray) -> Proxied | None:
    """Read the PROXY header at the beginning of a connection.

    Args:
        buffer: everything received so far.

    Returns:
        The header, or None while it is incomplete.

    Raises:
        Refusal: 400; this is no PROXY header of either version, and no octet of it may be taken for HTTP.
    """
    begin = bytes(buffer[:12])
    if begin == SIGNATURE:
        return _version_2(bytes(buffer[: 16 + MAX_V2]))
    if SIGNATURE.startswith(begin):
        return None
    if begin[:6] == b"PROXY "[: len(begin)]:
        return _version_1(bytes(buffer[:MAX_V1]))
    raise Refusal(400, "a connection that has to begin with a PROXY header does not")


def _version_1(buffer: bytes) -> Proxied | None:
    end = buffer.find(b"\r\n")
    line = buffer if end < 0 else buffer[:end]
    # A CR at the end may be half of the CRLF; every other octet has to be printable already now.
    if not all(0x20 <= octet < 0x7F for octet in line.removesuffix(b"\r")) or (end >= 0 and line.endswith(b"\r")):
        raise Refusal(400, "a PROXY line with an octet that is not printable")
    if end < 0:
        if len(buffer) >= MAX_V1:
            raise Refusal(400, "a PROXY line without an end")
        return None
    size = end + 2
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return Proxied(size)  # §2.1: the rest of the line is ignored
    found = _V1.fullmatch(line)
    if found is None:
        raise Refusal(400, "a malformed PROXY line")
    kind = ipaddress.IPv4Address if found[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, destination = (one_spelling(str(kind(found[group].decode("ascii")))) for group in (2, 3))
    except ValueError as error:
        raise Refusal(400, "a PROXY line with an invalid address") from error
    ports = int(found[4]), int(found[5])
    if max(ports) > 65535:
        raise Refusal(400, "a PROXY line with an invalid port")
    return Proxied(size, (source, ports[0]), (destination, ports[1]))


def _version_2(buffer: bytes) -> Proxied | None:
    if len(buffer) > 12 and buffer[12] not in (0x20, 0x21):
        raise Refusal(400, "a PROXY header of an unknown version or command")
    local = len(buffer) > 12 and buffer[12] == 0x20
    # §2.2: a LOCAL header's family is whatever; a family nobody knows makes a PROXY header unacceptable.
    if len(buffer) > 13 and not local and buffer[13] not in _KNOWN_FAMILIES:
        raise Refusal(400, "a PROXY header of an unknown address family")
    if len(buffer) < 16:
        return None
    family, length = buffer[13], int.from_bytes(buffer[14:16], "big")
    if length > MAX_V2:
        raise Refusal(400, "a PROXY header longer than this server reads")
    if not local and length < _KNOWN_FAMILIES[family]:
        raise Refusal(400, "a PROXY header too short for its addresses")
    size = 16 + length
    if len(buffer) < size:
        return None
    if local:
        return Proxied(size, own=True)
    _check_extensions(buffer[16 + _KNOWN_FAMILIES[family] : size])
    width = _ADDRESSES.get(family)
    if width is None:
        return Proxied(size)
    block = buffer[16 : 16 + 2 * width + 4]
    addresses = [one_spelling(str(ipaddress.ip_address(block[at : at + width]))) for at in (0, width)]
    ports = [int.from_bytes(block[at : at + 2], "big") for at in (2 * width, 2 * width + 2)]
    return Proxied(size, (addresses[0], ports[0]), (addresses[1], ports[1]))


def _check_extensions(block: bytes) -> None:
    """§2.2.x: type, length, value, one after the other, to the very end; none of them is used."""
    at = 0
    while at < len(block):
        if at + 3 > len(block):
            raise Refusal(400, "a PROXY header with an extension that is cut off")
        at += 3 + int.from_bytes(block[at + 1 : at + 3], "big")
    if at != len(block):
        raise Refusal(400, "a PROXY header with an extension beyond its end")
