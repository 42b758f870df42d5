"""What an application reads of a request's content."""

import hashlib

import pytest

from tests.support.client import Connection, request_bytes

CHUNKED = {"Transfer-Encoding": "chunked"}


def test_content_by_length_and_by_chunks(connection):
    assert connection.request("POST", "/echo", body=b"x" * 100000).body == b"x" * 100000
    connection.send(
        request_bytes("POST", "/echo", headers=CHUNKED)
        + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"
        + request_bytes()
    )
    assert connection.answer().body == b"abcde"
    assert connection.answer().body == b"body"


def test_lines(connection):
    body = b"one\ntwo\n\nthree"
    assert connection.request("POST", "/lines", body=body).json() == ["one\n", "two\n", "\n", "three"]
    connection.send(
        request_bytes("POST", "/lines", headers=CHUNKED) + b"5\r\none\nt\r\n4\r\nwo\n\n\r\n5\r\nthree\r\n0\r\n\r\n"
    )
    assert connection.answer().json() == ["one\n", "two\n", "\n", "three"]


def test_much_content_in_pieces(connection):
    body = bytes(range(256)) * 40000
    assert connection.request("POST", "/digest", body=body).text == f"{len(body)} {hashlib.sha256(body).hexdigest()}"


@pytest.mark.parametrize("size", [10, 100000])
def test_content_that_nobody_read_does_not_become_a_request(connection, size):
    connection.send(
        request_bytes("POST", "/", body=b"GET /raise HTTP/1.1\r\n\r\n" + b"x" * size) + request_bytes(path="/list")
    )
    assert connection.answer().body == b"body"
    assert connection.answer().body == b"onetwo"


def test_too_much_unread_content_ends_the_connection(engine, connection):
    connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
    answer = connection.answer()
    assert answer.body == b"body"
    assert answer.closes


def test_continue_is_said_when_the_application_reads(connection):
    connection.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert connection.sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.send(b"abc")
    assert connection.answer().body == b"abc"


@pytest.mark.only("eventlet", "the method is eventlet.input's")
def test_continue_with_fields_of_the_application(connection):
    connection.send(b"POST /continue-fields HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert connection.sock.recv(1000) == b"HTTP/1.1 100 Continue\r\nX-Told: early\r\n\r\n"
    connection.send(b"abc")
    assert connection.answer().body == b"abc"


def test_continue_is_not_said_when_it_does_not_and_the_connection_ends(connection):
    connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    answer = connection.answer()
    assert answer.status == 200
    assert answer.closes


def test_malformed_chunks_are_refused_not_a_500(connection):
    connection.send(request_bytes("POST", "/echo", headers=CHUNKED) + b"0x3\r\nabc\r\n0\r\n\r\n")
    answer = connection.answer()
    assert answer.status == 400
    assert answer.closes


def test_an_application_that_catches_a_failure_to_read_does_not_make_it_a_500(connection):
    connection.send(request_bytes("POST", "/catches?500", headers=CHUNKED) + b"0x3\r\nabc\r\n0\r\n\r\n")
    answer = connection.answer()
    assert (answer.status, answer.closes) == (400, True)
    assert "chunk" in answer.json()["badRequest"]["message"]


def test_an_application_may_answer_itself_what_it_could_not_read(connection):
    connection.send(request_bytes("POST", "/catches?422", headers=CHUNKED) + b"0x3\r\nabc\r\n0\r\n\r\n")
    answer = connection.answer()
    assert (answer.status, answer.text, answer.closes) == (422, "Refusal", True)
    assert connection.rest() == b""


@pytest.mark.parametrize("path", ["/echo", "/catches?500"])
def test_half_an_upload_is_no_upload(engine, path):
    with Connection(engine.address) as one:
        one.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc".encode())
        one.sock.shutdown(1)
        answer = one.answer()
        assert (answer.status, answer.closes) == (400, True)
        assert one.rest() == b""
    assert "the client has left" in engine.logged()
