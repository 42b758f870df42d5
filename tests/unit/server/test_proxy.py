"""The PROXY protocol, whole and octet by octet."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apid.server.protocol import proxy_protocol
from apid.server.protocol.error_response import Refusal

AFTER = b"GET / HTTP/1.1\r\n"


def whole(octets):
    return proxy_protocol.read(octets)


def dripped(octets):
    for end in range(len(octets) + 1):
        found = proxy_protocol.read(bytearray(octets[:end]))
        if found is not None:
            return found
    return None


def v2(command, family, block, length=None):
    return (
        proxy_protocol.SIGNATURE + bytes([0x20 | command, family]) + (length or len(block)).to_bytes(2, "big") + block
    )


V4 = (
    socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + (4711).to_bytes(2, "big") + (443).to_bytes(2, "big")
)


def mapped(address):
    return socket.inet_pton(socket.AF_INET6, f"::ffff:{address}")


V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    + (4711).to_bytes(2, "big")
    + (443).to_bytes(2, "big")
)


@pytest.fixture(params=[whole, dripped])
def how(request):
    return request.param


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n", ("192.0.2.1", 4711)),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 0 65535\r\n", ("192.0.2.1", 0)),
        (b"PROXY TCP6 2001:DB8::1 2001:db8::2 4711 443\r\n", ("2001:db8::1", 4711)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 whatever is here\r\n", None),
        (v2(1, 0x11, V4), ("192.0.2.1", 4711)),
        (v2(1, 0x21, V6), ("2001:db8::1", 4711)),
        (v2(1, 0x11, V4 + b"\x04\x00\x02ab\x01\x00\x00"), ("192.0.2.1", 4711)),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::FFFF:c000:202 4711 443\r\n", ("192.0.2.1", 4711)),
        (b"PROXY TCP6 64:ff9b::c000:201 64:ff9b::c000:202 4711 443\r\n", ("64:ff9b::c000:201", 4711)),
        (v2(1, 0x21, mapped("192.0.2.1") + mapped("192.0.2.2") + V4[8:]), ("192.0.2.1", 4711)),
        (v2(1, 0x12, V4), None),
        (v2(1, 0x22, V6), None),
        (v2(1, 0x32, bytes(216)), None),
        (v2(1, 0x00, b"\x04\x00\x00"), None),
        (v2(1, 0x00, b""), None),
        (v2(1, 0x31, bytes(216)), None),
        (v2(0, 0x00, b""), None),
        (v2(0, 0x77, b"what a health check says"), None),
        (v2(0, 0x11, V4), None),
    ],
)
def test_read(how, header, source):
    found = how(header + AFTER)
    assert found.size == len(header)
    assert found.source == source
    assert found.own is (header[:13] == proxy_protocol.SIGNATURE + b"\x20")
    if source:
        assert found.client == (source[0], str(source[1]))
    elif not found.own:
        assert found.client == ("unknown", "0")
    if source:
        assert found.destination == (source[0][:-1] + "2", 65535 if source[1] == 0 else 443)


@pytest.mark.parametrize(
    "octets",
    [
        AFTER,
        b"\r\nGET / HTTP/1.1\r\n",
        b"PROXY\r\n",
        b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 ::1%lo ::2 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UNKNOWN\0\r\n",
        b"PROXY UNKNOWN\r\r\n",
        b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
        proxy_protocol.SIGNATURE[:-1] + b"\r",
        proxy_protocol.SIGNATURE + b"\x11\x11\x00\x0c" + V4,
        proxy_protocol.SIGNATURE + b"\x22\x11\x00\x0c" + V4,
        v2(1, 0x41, V4),
        v2(1, 0x13, V4),
        v2(1, 0x11, V4[:-1]),
        v2(1, 0x21, V4),
        v2(1, 0x31, bytes(215)),
        v2(1, 0x11, V4 + b"\x04\x00"),
        v2(1, 0x11, V4 + b"\x04\x00\x03ab"),
        v2(1, 0x11, b"", length=proxy_protocol.MAX_V2 + 1),
    ],
)
def test_refused(how, octets):
    with pytest.raises(Refusal) as caught:
        how(octets + AFTER)
    assert caught.value.status == 400


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n", v2(1, 0x21, V6)])
def test_incomplete(header):
    assert [proxy_protocol.read(header[:end]) for end in range(len(header))] == [None] * len(header)


@given(
    st.one_of(
        st.binary(max_size=64),
        st.binary(max_size=64).map(lambda rest: proxy_protocol.SIGNATURE + rest),
        st.binary(max_size=64).map(lambda rest: b"PROXY " + rest + b"\r\n"),
        st.from_regex(rb"PROXY (TCP4|TCP6|UNKNOWN)( [0-9a-f.:]{0,15}){0,4}\r\n", fullmatch=True),
    )
)
def test_never_two_readings_and_no_other_exception(octets):
    outcomes = []
    for how in (whole, dripped):
        try:
            outcomes.append(how(octets))
        except Refusal as refusal:
            outcomes.append(refusal.status)
    assert outcomes[0] == outcomes[1]
