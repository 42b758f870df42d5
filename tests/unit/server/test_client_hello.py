"""The offer in a client hello: as real clients write it, cut anywhere, in one record or many; other octets are OpenSSL's."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apid.server.client_hello import MOST, protocols


def hello(*names, version=ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context()
    context.maximum_version = version
    if names:
        context.set_alpn_protocols(list(names))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def in_records(data, size):
    """Distribute the one handshake message of a record over records of `size` octets."""
    pieces = [data[5:][at : at + size] for at in range(0, len(data) - 5, size)]
    return b"".join(data[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("names", [(), ("h2",), ("h2", "http/1.1"), ("http/1.1",), ("acme-tls/1", "x" * 255)])
def test_what_clients_offer(version, names):
    data = hello(*names, version=version)
    expected = [name.encode() for name in names]
    assert protocols(data) == expected
    assert protocols(data + b"\x16\x03\x03") == expected
    for size in (len(data) // 7, 400, len(data)):
        assert protocols(in_records(data, size)) == expected
        assert protocols(in_records(data, size)[:-1]) is None
    assert protocols(in_records(data, 20)) == []  # more records than are looked at
    assert {protocols(data[:end]) is None for end in range(len(data))} == {True}


def test_more_names_than_are_read_are_left_to_openssl():
    assert protocols(hello(*["h2"] * 1000)) == []
    assert len(protocols(hello(*["h2"] * 40))) == 40


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x00",
        b"\x16\x03\x03\x00\x00",
        b"\x16\x03\x03\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x03\x00\x04\x01\x00\x00\x00",
        b"\x16\x03\x03\x40\x00" + b"\x01\xff\xff\xff" + bytes(MOST),
    ],
)
def test_what_is_none_is_left_to_openssl(data):
    assert protocols(data[:MOST]) == []


HELLO = hello("h2")


@given(st.integers(0, len(HELLO)), st.binary(max_size=4), st.binary(max_size=20))
def test_other_octets_raise_nothing_and_have_one_reading(at, octets, more):
    """However they are cut: incomplete until it is known what they are, and then that."""
    for data in (HELLO[:at] + octets + HELLO[at + len(octets) :] + more, octets + more):
        readings = [protocols(data[:end]) for end in range(len(data) + 1)]
        known = [reading for reading in readings if reading is not None]
        assert all(reading == known[0] for reading in known)
        assert readings == [None] * (len(readings) - len(known)) + known
