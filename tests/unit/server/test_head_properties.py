"""What holds for every stream: one reading whatever the cuts, no exception but a Refusal, nothing illegal let through.

The streams are put together from pieces of HTTP and from the corpus, spoilt; the fuzz target (tests/fuzz) goes on from here.
"""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apid.server.protocol.error_response import Refusal
from apid.server.protocol.request_head import Limits, Reader
from tests.support import corpus, reading, streams

SEEDS = [case.octets for case in corpus.load() if len(case.octets) < 2000]
STATUSES = {400, 413, 414, 417, 431, 501, 505}
TIGHT = Limits(max_request_line=40, max_header_line=30, max_headers=4, max_header_size=60)

MADE = st.integers(0, 2**64).map(lambda seed: streams.make(random.Random(seed), SEEDS))
STREAMS = st.one_of(MADE, MADE, MADE, st.binary(max_size=200))
CUTS = st.lists(st.integers(0, 300), max_size=8)

# RFC 9112 §2.1, §3, §5 once more and by other means: what is let through has to be this, octet for octet.
TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
HEAD = re.compile(
    rb"(?:\r\n){0,4}"
    + TCHAR
    + rb"{1,32} [\x21\x22\x24-\x7e]+ HTTP/1\.[0-9]\r\n(?:"
    + TCHAR
    + rb"+:"
    + VALUE
    + rb"\r\n)*\r\n"
)


@settings(max_examples=400)
@given(STREAMS, CUTS, st.sampled_from([Limits(), TIGHT]))
def test_one_reading_whatever_the_cuts(octets, cuts, limits):
    whole = reading.read([octets], limits)
    assert isinstance(whole.ending, str) or whole.ending in STATUSES
    assert reading.read(reading.pieces(octets, cuts), limits) == whole
    assert reading.read([bytes([octet]) for octet in octets], limits) == whole
    assert reading.read([octets], limits, Reader) == whole


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 2**64).map(lambda seed: streams.repeating(random.Random(seed))), min_size=1, max_size=2),
    CUTS,
)
def test_repeated_heads_are_read_as_if_they_were_new(parts, cuts):
    octets = b"".join(parts)
    new = reading.read([octets], None, Reader)
    assert reading.read([octets]) == new
    assert reading.read(reading.pieces(octets, cuts)) == new


@settings(max_examples=400)
@given(MADE, st.sampled_from([Limits(), TIGHT]))
def test_what_is_let_through_is_the_grammar(octets, limits):
    reader = Reader(limits)
    try:
        head = reader.read(octets, reading.TEMPLATE)
    except Refusal:
        return
    if head is None:
        return
    assert HEAD.fullmatch(octets[: head.size])
    environ = head.environ
    assert all(type(key) is str and re.fullmatch(r"[A-Z0-9a-z._!#$%&'*+^`|~]+", key) for key in environ)
    for key, value in environ.items():
        if key.startswith(("HTTP_", "CONTENT_")) or key in {"RAW_PATH_INFO", "QUERY_STRING", "REQUEST_METHOD"}:
            assert not re.search(r"[\0-\x08\x0a-\x1f\x7f\u0100-\U0010ffff]", value), key
            assert value == value.strip(" \t") or ", " in value, key  # a list may have an empty line
    assert environ["PATH_INFO"].startswith("/") or environ["PATH_INFO"] == "*"
    assert not (head.chunked and head.content_length)
    assert head.content_length == int(environ.get("CONTENT_LENGTH", 0))


@settings(max_examples=400)
@given(MADE)
def test_the_pattern_and_the_walk_read_the_same(octets):
    outcomes = []
    for short in (Limits().max_request_line, -1):
        reader = Reader(Limits())
        reader._short = short  # no head is short enough for the pattern
        try:
            head = reader.read(octets, reading.TEMPLATE)
        except Refusal as refusal:
            outcomes.append(refusal.args)
        else:
            outcomes.append(head and {name: getattr(head, name) for name in head.__slots__})
    assert outcomes[0] == outcomes[1]


def test_a_head_fed_octet_by_octet_costs_what_it_costs_whole():
    """The walk keeps its place: the octets looked at are counted, not the time."""
    octets = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"a" * 16000 + b"\r\n\r\n"
    reader, buffer = Reader(Limits()), _Counting()
    for octet in octets:
        buffer.append(octet)
        if reader.read(buffer, reading.TEMPLATE):
            break
    else:
        pytest.fail("the head was not read")
    assert buffer.looked_at < 8 * len(octets)


class _Counting(bytearray):
    """Counts over how many octets `find` was told to go."""

    looked_at = 0

    def find(self, what, begin=0, end=None):
        self.looked_at += (len(self) if end is None else end) - begin
        return super().find(what, begin, len(self) if end is None else end)
