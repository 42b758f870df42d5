"""A client's certificate in the environ: subject and issuer as RFC 4514 text, and the serial number.

The text is that of `openssl x509 -nameopt RFC2253`, which mod_ssl has too, but for what is not ASCII: mod_ssl leaves that as it
is. Here each octet of it is escaped, because PEP 3333 has no place for it in the environ. Different names have different
texts, and no text holds a control character.

`ssl.SSLSocket.getpeercert` is not enough: it gives long names, escapes nothing that would let one read its values again, cuts
long serial numbers, and fails as a whole at a value that is no text. So the DER (X.690) of the certificate is read here.
"""

from __future__ import annotations

import _ssl
import functools
import re
from collections.abc import Iterator

_INTEGER, _OID, _SEQUENCE, _SET, _VERSION = 0x02, 0x06, 0x30, 0x31, 0xA0
_UTF8, _UNIVERSAL, _BMP = 12, 28, 30
_LATIN1 = frozenset({18, 19, 20, 22})
"""Tags of strings with one octet a character; T61String (20) is read as Latin-1, as in other implementations."""

_LONGEST_OID = 128
"""Octets; the time to write one grows with the square of them."""

_SPECIAL = re.compile(rb'[\x00-\x1f\x7f-\xff",+<>;\\]|\A[ #]| \Z')


def describe(der: bytes) -> dict[str, str]:
    """Return `SSL_CLIENT_S_DN`, `SSL_CLIENT_I_DN` and `SSL_CLIENT_M_SERIAL` of a certificate.

    Raises:
        ValueError: this is not DER, or no certificate (RFC 5280 §4.1).
    """
    (tag, body, _), *_ = _elements(_expect(der, _SEQUENCE))
    if tag != _SEQUENCE:
        raise ValueError("no TBSCertificate")
    fields = list(_elements(body))
    if fields and fields[0][0] == _VERSION:
        del fields[0]
    tags = [tag for tag, _, _ in fields[:5]]
    if tags != [_INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE]:
        raise ValueError("no TBSCertificate")
    serial, _, issuer, _, subject = (content for _, content, _ in fields[:5])
    return {
        "SSL_CLIENT_S_DN": _name(subject),
        "SSL_CLIENT_I_DN": _name(issuer),
        "SSL_CLIENT_M_SERIAL": _hexadecimal(int.from_bytes(serial, "big", signed=True)),
    }


def _elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (tag, content, the whole element) of each element in a sequence of them."""
    at = 0
    while at < len(data):
        begin = at
        tag, size = data[at], data[at + 1] if at + 1 < len(data) else -1
        at += 2
        if size >= 0x80:
            octets = data[at : at + size - 0x80]
            at += size - 0x80
            size = int.from_bytes(octets, "big") if 0 < len(octets) <= 4 else -1
        if size < 0 or at + size > len(data) or tag & 0x1F == 0x1F:
            raise ValueError("not in DER")
        yield tag, data[at : at + size], data[begin : at + size]
        at += size


def _expect(data: bytes, *tags: int) -> bytes:
    """Return the content of the only element, whose tag is one of these."""
    ((tag, content, _),) = _elements(data)
    if tag not in tags:
        raise ValueError(f"unexpected tag {tag:#x}")
    return content


def _name(sequence: bytes) -> str:
    """Write a Name: the last RDN first; within one, `+` between its attributes."""
    parts = []
    for tag, content, _ in _elements(sequence):
        if tag != _SET or not content:
            raise ValueError("no RelativeDistinguishedName")
        parts.append("+".join([_attribute(_expect(whole, _SEQUENCE)) for _, _, whole in _elements(content)][::-1]))
    return ",".join(parts[::-1])


def _attribute(content: bytes) -> str:
    (tag, oid, _), (kind, value, whole) = _elements(content)
    if tag != _OID:
        raise ValueError("no AttributeTypeAndValue")
    dotted = _dotted(oid)
    known = _short_name(dotted)
    text = _text(kind, value) if known else None
    if text is None:  # RFC 4514 §2.4: for a type without a name, or a value that is no string
        return f"{known or dotted}=#{whole.hex().upper()}"
    return f"{known}={_SPECIAL.sub(_escape, text).decode('ascii')}"


def _text(tag: int, value: bytes) -> bytes | None:
    """Return a string as UTF-8; None where it is no string."""
    try:
        if tag == _UTF8:
            return value
        if tag in _LATIN1:
            return value.decode("latin-1").encode()
        if tag == _BMP:
            return value.decode("utf-16-be").encode()
        if tag == _UNIVERSAL:
            return value.decode("utf-32-be").encode()
    except UnicodeDecodeError:
        pass
    return None


def _escape(found: re.Match[bytes]) -> bytes:
    octet = found[0]
    return b"\\" + octet if octet in b' "#+,;<>\\' else b"\\%02X" % octet[0]


def _dotted(oid: bytes) -> str:
    """Write an OID as numbers (X.690 §8.19)."""
    if not 0 < len(oid) <= _LONGEST_OID or oid[-1] & 0x80:
        raise ValueError("no object identifier")
    numbers = []
    number = 0
    for octet in oid:
        if octet == 0x80 and number == 0:
            raise ValueError("an object identifier with leading zeros")
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


@functools.lru_cache(256)
def _short_name(dotted: str) -> str | None:
    """Return OpenSSL's short name of a type, such as `CN`; None where it has none."""
    try:
        return _ssl.txt2obj(dotted)[1]
    except ValueError:
        return None


def _hexadecimal(number: int) -> str:
    """Write a number as i2a_ASN1_INTEGER(3) does, but on one line: `0A`, `-0A`."""
    text = f"{abs(number):X}"
    return "-" * (number < 0) + "0" * (len(text) % 2) + text
