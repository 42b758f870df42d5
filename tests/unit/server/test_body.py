"""Content in chunks, fed whole and octet by octet."""

import pytest

from apid.server.protocol.chunked import ChunkDecoder
from apid.server.protocol.error_response import Refusal
from apid.server.protocol.request_head import Limits


def feed_whole(decoder, octets):
    return b"".join(decoder.feed(octets))


def feed_dripped(decoder, octets):
    return b"".join(piece for octet in octets for piece in decoder.feed(bytes([octet])))


@pytest.fixture(params=[feed_whole, feed_dripped], ids=["whole", "dripped"])
def how(request):
    return request.param


def test_chunks_extensions_and_trailers(how):
    decoder = ChunkDecoder(Limits())
    octets = b'5\r\nhello\r\n0006 ; a=b;c="d;\\"\xe9" \t;e\r\n world\r\n00\r\nX-Sum:  1 \r\n\r\nGET'
    assert how(decoder, octets) == b"hello world"
    assert decoder.done
    assert decoder.rest == b"GET"
    assert decoder.trailers == [("X-Sum", "1")]


def test_ahead_tells_how_much_may_be_read_at_once():
    decoder = ChunkDecoder(Limits())
    decoder.feed(b"400\r\nabc")
    assert decoder.ahead == 1021


def test_a_block_that_is_all_content_is_not_copied():
    decoder, block = ChunkDecoder(Limits()), bytes(1000)
    decoder.feed(b"800\r\n")
    assert decoder.feed(block)[0] is block


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"0x3\r\nabc\r\n", 400),
        (b"-1\r\n", 400),
        (b"+3\r\nabc", 400),
        (b"1_0\r\n", 400),
        (b"3 \r\nabc", 400),
        (b" 3\r\nabc", 400),
        (b"\r\n", 400),
        (b";a\r\n", 400),
        (b"3\nabc", 400),
        (b"3\rabc", 400),
        (b"3;a\nabc\r\n", 400),
        (b"3;a=\r\n", 400),
        (b'3;a="b\r\n', 400),
        (b"3;a b\r\n", 400),
        (b"00000000000000003\r\n", 400),
        (b"3\r\nabcd\r\n", 400),
        (b"3\r\nabc\n", 400),
        (b"3\r\nabc\r\r\n", 400),
        (b"3;" + b"a" * 1024, 400),
        ((b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 17, 400),
        (b"0\r\n folded\r\n", 400),
        (b"0\r\nA : b\r\n", 400),
        (b"0\r\nA: \0\r\n", 400),
        (b"0\r\n\n", 400),
        (b"0\r\n" + b"A: b\r\n" * 200 + b"A", 431),
        (b"0\r\nA: " + b"b" * 16384, 431),
        (b"0\r\n" + (b"A: " + b"b" * 16000 + b"\r\n") * 4 + b"A: " + b"b" * 1600, 431),
    ],
)
def test_refused(how, octets, status):
    with pytest.raises(Refusal) as caught:
        how(ChunkDecoder(Limits()), octets)
    assert caught.value.status == status
