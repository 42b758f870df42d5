"""One head at a time: what the environ holds, and that the outcome does not depend on how the stream was cut."""

import pytest

from apid.server.protocol.error_response import Refusal
from apid.server.protocol.request_head import Limits, Reader

TEMPLATE = {"wsgi.version": (1, 0), "SERVER_NAME": "localhost", "SERVER_PORT": "8080"}


def read(octets, limits=None):
    return Reader(limits or Limits()).read(octets, TEMPLATE)


def drip(octets, limits=None):
    """Octet by octet, the way a slow client sends."""
    reader, buffer = Reader(limits or Limits()), bytearray()
    for octet in octets:
        buffer.append(octet)
        head = reader.read(buffer, TEMPLATE)
        if head is not None:
            return head
    return None


@pytest.fixture(params=[read, drip], ids=["whole", "dripped"])
def how(request):
    return request.param


def test_environ_of_an_ordinary_request(how):
    head = how(
        b"POST /v2/a%20b//c?x=%31&y HTTP/1.1\r\nHost: api:8080\r\nContent-Type: text/plain\r\nContent-Length: 03\r\n"
        b"X-Auth-Token:  secret \r\nx_auth_token: forged\r\nCookie: a=1\r\nAccept: a/b\r\nCookie: b=2\r\nAccept: c/d\r\n\r\nabc"
    )
    assert head.environ == TEMPLATE | {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/v2/a b//c",
        "RAW_PATH_INFO": "/v2/a%20b//c",
        "QUERY_STRING": "x=%31&y",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "api:8080",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "3",
        "HTTP_X_AUTH_TOKEN": "secret",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_ACCEPT": "a/b, c/d",
    }
    assert (head.method, head.target, head.minor) == ("POST", "/v2/a%20b//c?x=%31&y", 1)
    assert (head.content_length, head.chunked, head.keep_alive, head.expect_continue) == (3, False, True, False)
    assert head.line == b"POST /v2/a%20b//c?x=%31&y HTTP/1.1"


def test_size_is_what_the_head_took(how):
    octets = b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert how(octets + b"GET /next HTTP/1.1\r\n").size == len(octets)


def test_the_template_is_not_changed():
    before = dict(TEMPLATE)
    read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert before == TEMPLATE


def test_empty_lines_begin_no_request():
    reader, buffer = Reader(Limits()), bytearray()
    for octet in b"\r\n\r\n\r":
        buffer.append(octet)
        assert reader.read(buffer, TEMPLATE) is None
        assert not reader.begun
    buffer += b"\nG"
    assert reader.read(buffer, TEMPLATE) is None
    assert reader.begun


def test_one_reader_reads_one_request_after_the_other():
    reader = Reader(Limits())
    first = b"\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
    assert reader.read(first[:9], TEMPLATE) is None
    assert reader.begun
    assert reader.read(first, TEMPLATE).target == "/1"
    assert not reader.begun
    assert reader.read(b"GET /2 HTTP/1.0\r\n\r\n", TEMPLATE).target == "/2"
    with pytest.raises(Refusal, match="400"):
        reader.read(b"GET /3 HTTP/1.1\r\nHost: a b\r\n\r\n", TEMPLATE)


@pytest.mark.parametrize(
    ("prefix", "status"),
    [
        (b"\x16\x03", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\rb", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n", 400),
        (b"PRI * HTTP/2.0\r\n", 505),
        (b"GET /" + b"a" * 8190, 414),
        (b"GET / HTTP/1.1\r\nA:" + b"a" * 16384, 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"A", 431),
        (b"GET / HTTP/1.1\r\n" + (b"A: " + b"b" * 16000 + b"\r\n") * 4 + b"A: " + b"b" * 1600, 431),
    ],
)
def test_refused_before_the_head_is_complete(how, prefix, status):
    with pytest.raises(Refusal) as caught:
        how(prefix)
    assert caught.value.status == status
