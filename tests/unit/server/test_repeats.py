"""A repeating reader gives what a plain one gives, whatever is sent."""

from hypothesis import example, given
from hypothesis import strategies as st

from apid.server.protocol.error_response import Refusal
from apid.server.protocol.head_cache import RepeatingReader
from apid.server.protocol.request_head import Limits, Reader

LIMITS = Limits(max_request_line=60)
TEMPLATE = {"SERVER_NAME": "here", "wsgi.version": (1, 0)}

LINES = st.sampled_from([
    "GET / HTTP/1.1", "GET /a?b=c HTTP/1.1", "POST /a?b%20?/ HTTP/1.1", "GET /%41 HTTP/1.1", "GET /%00 HTTP/1.1",
    "HEAD //x HTTP/1.1",
    "GET / HTTP/1.0", "GET http://other/x HTTP/1.1", "OPTIONS * HTTP/1.1", "CONNECT /a HTTP/1.1", "GET /a#b HTTP/1.1",
    "GET  / HTTP/1.1",
    "get / HTTP/1.1", "GET /" + "x" * 60 + " HTTP/1.1", "GET /?% HTTP/1.1", "", "\r\nGET / HTTP/1.1",
    "GET / HTTP/1.2", "GET /\x7f HTTP/1.1",
])  # fmt: skip
FIELDS = st.sampled_from([
    "Host: a\r\n", "Host: a\r\nX-A: 1\r\n", "Host: a\r\nContent-Length: 3\r\n", "Host: a\r\nConnection: close\r\n",
    "Host: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "Host: a\r\nCookie: a\r\nCookie: b\r\nx_y: 1\r\n", "",
    "Host: b\r\n", "Host : a\r\n",
])  # fmt: skip
HEADS = st.builds(lambda line, fields: f"{line}\r\n{fields}\r\n".encode("latin-1"), LINES, FIELDS)


def outcome(reader, data, cut):
    """Feed a head, in two pieces if `cut` is not 0."""
    try:
        if cut and (early := reader.read(data[:cut], TEMPLATE)) is not None:
            return told(early)
        return told(reader.read(bytearray(data) if cut else data, TEMPLATE))
    except Refusal as refusal:
        return refusal.status, refusal.reason


def told(head):
    return head and {name: getattr(head, name) for name in head.__slots__}


@given(
    st.lists(
        st.tuples(HEADS, st.sampled_from([0, 0, 0, 1, 20]), st.sampled_from([b"", b"abc", b"GET / HTTP/1.1\r\n"])),
        max_size=12,
    )
)
@example([(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, b"")] * 6)
@example(
    [(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, b"")] * 5
    + [(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n", 0, b"")] * 2
    + [(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 20, b"")] * 2
)
@example(
    [(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, b"")] * 2 + [(b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 0, b"")] * 3
)
def test_the_same_outcome_as_a_plain_reader(heads):
    plain, repeating = Reader(LIMITS), RepeatingReader(LIMITS)
    for data, cut, rest in heads:
        expected, got = outcome(plain, data + rest, cut), outcome(repeating, data + rest, cut)
        assert got == expected
        if not isinstance(expected, dict):
            return  # refused or incomplete: the connection ends, or goes on with other octets
        got["environ"]["mine"] = expected["environ"]["mine"] = 1  # an application's own entries stay its own


def test_a_repetition_is_not_read_again():
    reader = RepeatingReader(LIMITS)
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ in range(2):
        reader.read(data, TEMPLATE)
    reader._reader = None
    assert reader.read(b"PUT /b HTTP/1.1\r\nHost: a\r\n\r\nrest", TEMPLATE).environ["PATH_INFO"] == "/b"


def test_the_same_once_more_is_not_even_taken_apart():
    reader = RepeatingReader(LIMITS)
    data = b"GET /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    for _ in range(4):
        first = told(reader.read(data, TEMPLATE))
    reader._reader = reader._model = None
    last = reader.read(bytearray(data + b"abc"), TEMPLATE)
    assert told(last) == first
    last.environ["mine"] = 1
    assert told(reader.read(data, TEMPLATE)) == first
