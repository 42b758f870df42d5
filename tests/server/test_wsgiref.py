"""wsgiref.validate.validator finds nothing wrong with the environ and the calls of either engine (PEP 3333)."""

import pathlib

import pytest

from tests.support.apps import validated
from tests.support.client import Connection, request_bytes

CHUNKED = {"Transfer-Encoding": "chunked"}
BODY = b"one\ntwo\nthree"
CHUNKS = b"4\r\none\n\r\n9\r\ntwo\nthree\r\n0\r\n\r\n"
PATHS = {
    "/": b"body",
    "/?query": b"body",
    "/echo": BODY,
    "/pieces": BODY,
    "/lines": BODY,
    "/written": b"written and returned",
    "/rescued": b"rescued",
    "/no-content": b"",
    "/file": pathlib.Path(validated.__file__).read_bytes(),
    "/errors": b"told",
}


@pytest.fixture(scope="module")
def engine(serving):
    with serving(validated.app) as engines:
        yield engines
        assert "one line" in engines.logged()
        assert "AssertionError" not in engines.logged()


def status(path):
    return {"/rescued": 503, "/no-content": 204}.get(path, 200)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CHUNKED"])
def test_every_method_on_a_kept_connection(engine, connection, method):
    for path, content in PATHS.items():
        if method == "CHUNKED":
            connection.send(request_bytes("POST", path, headers=CHUNKED) + CHUNKS)
            answer = connection.answer()
        else:
            body = BODY if method in ("POST", "PUT") else None
            answer = connection.request(method, path, body=body)
        nothing = method == "HEAD" or (content is BODY and method in ("GET", "DELETE", "OPTIONS"))
        expected = status(path), b"" if nothing else content, False
        assert (answer.status, answer.body, answer.closes) == expected, (path, engine.logged())


def test_pipelined(engine, connection):
    connection.send(b"".join(request_bytes("POST", path, body=BODY) for path in PATHS))
    for path, content in PATHS.items():
        answer = connection.answer()
        assert (answer.status, answer.body) == (status(path), content), (path, engine.logged())


@pytest.mark.parametrize("version", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"])
def test_the_last_request_of_a_connection(engine, version):
    for path in PATHS:
        with Connection(engine.address) as one:
            one.send(b"GET %b %b\r\n" % (path.encode(), version))
            assert one.answer().status == status(path), (path, engine.logged())
            assert one.rest() == b""


def test_the_validator_complains_when_something_is_wrong(serving):
    with serving(validated.wrong_app) as engine, Connection(engine.address) as one:
        assert one.request().status == 500
        assert "AssertionError" in engine.logged()
