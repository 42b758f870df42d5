"""Makes streams: put together from the pieces of HTTP, or the corpus's own, spoilt a little. Deterministic for a given dice."""

from __future__ import annotations

import random
from collections.abc import Sequence

_METHODS = [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"get", b"G(T", b"", b"DELETE"]
_TARGETS = [
    b"/",
    b"/a?b=c",
    b"//a",
    b"/%41",
    b"/%zz",
    b"*",
    b"http://b/c",
    b"http://b",
    b"a",
    b"a:1",
    b"/#",
    b"/\xff",
    b"/ ",
]
_VERSIONS = [
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/1.1 ",
    b"http/1.1",
    b"",
]
_ENDS = [b"\r\n"] * 30 + [b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b""]
_FIELDS = [
    b"Host: a", b"Host: a", b"Host: a", b"Host:a:80", b"Host: ", b"Host: a b", b"Host : a", b"host: b",
    b"Content-Length: 3", b"Content-Length: 3", b"Content-Length: 03", b"Content-Length: +3", b"Content-Length: 3, 3",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", b"transfer-encoding: gzip, chunked", b"Transfer-Encoding: x",
    b"Transfer-Encoding : chunked", b"Connection: close", b"Connection: keep-alive", b"Connection: a, CLOSE",
    b"Expect: 100-continue",
    b"Expect: x", b"X-A: b", b"X-A:\tb \t", b"X_A: b", b"X-A:", b": b", b"b", b" b", b"X-A: \x00", b"X-A: \xe9\x80", b"Cookie: a",
    b"Content-Type: a/b", b"Upgrade: h2c",
]  # fmt: skip
_BODIES = [
    b"", b"", b"", b"abc", b"abc", b"0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n", b"3\nabc\r\n0\r\n\r\n", b"-1\r\n", b"3 \r\nabc\r\n0\r\n\r\n", b"\r\n",
    b"0\r\nX : y\r\n\r\n", b"0\r\n y\r\n\r\n",
]  # fmt: skip
_SPLINTERS = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"\0", b"\x7f", b"\xff", b",", b";",
    b"0", b"3", b"x", b"%", b"#", b"_", b"-", b"+",
]  # fmt: skip


def build(dice: random.Random) -> bytes:
    """Put together one to three requests."""
    parts = []
    for _ in range(dice.randrange(1, 4)):
        line = b" ".join([dice.choice(_METHODS), dice.choice(_TARGETS), dice.choice(_VERSIONS)])
        if dice.random() < 0.1:
            line = b"GET /" + b"a" * dice.randrange(64) + b" HTTP/1.1"
        elif dice.random() < 0.7:
            line = dice.choice([b"GET / HTTP/1.1", b"POST /a HTTP/1.1", b"GET /b HTTP/1.0"])
        parts += [line, dice.choice(_ENDS)]
        parts += [b"Host: a\r\n"] * (dice.random() < 0.7)
        for _ in range(dice.randrange(0, 4)):
            parts += [dice.choice(_FIELDS), b"a" * dice.choice((0, 0, 0, dice.randrange(64))), dice.choice(_ENDS)]
        parts += [dice.choice(_ENDS), dice.choice(_BODIES)]
    return b"".join(parts)


def spoil(octets: bytes, dice: random.Random) -> bytes:
    """Change a stream in one to three places: an octet or a splinter more, a few less, another, a part twice."""
    spoilt = bytearray(octets)
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(spoilt) + 1)
        width = dice.randrange(1, 4)
        kind = dice.randrange(4)
        if kind == 0:
            spoilt[at:at] = dice.choice(_SPLINTERS)
        elif kind == 1:
            del spoilt[at : at + width]
        elif kind == 2:
            spoilt[at : at + 1] = bytes([dice.randrange(256)])
        else:
            spoilt[at:at] = spoilt[at : at + 8 * width]
    return bytes(spoilt)


def repeating(dice: random.Random) -> bytes:
    """Make four to eight requests whose field sections are mostly the same, with other request lines; some are spoilt."""
    sections = [
        b"Host: a\r\n" + b"".join(dice.choice(_FIELDS) + b"\r\n" for _ in range(dice.randrange(3))) + b"\r\n"
        for _ in range(2)
    ]
    parts = []
    for _ in range(dice.randrange(4, 9)):
        method = dice.choice([b"GET", b"GET", b"POST", dice.choice(_METHODS)])
        target = dice.choice([b"/", b"/a?b", b"/b", dice.choice(_TARGETS)])
        version = dice.choice([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", dice.choice(_VERSIONS)])
        section = sections[dice.random() < 0.2]
        section = spoil(section, dice) if dice.random() < 0.05 else section
        body = b"abc" if b"Content-Length" in section else b"3\r\nabc\r\n0\r\n\r\n" if b"chunked" in section else b""
        parts += [b"\r\n" * (dice.random() < 0.1), method, b" ", target, b" ", version, b"\r\n", section, body]
    return b"".join(parts)


def make(dice: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Make a stream one way or the other."""
    stream = build(dice) if dice.random() < 0.4 else dice.choice(seeds)
    return stream if dice.random() < 0.1 else spoil(stream, dice)
