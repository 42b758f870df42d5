"""What an application answers and what of it reaches the wire (promise S3, PEP 3333)."""

import json
import re
import time

import pytest

from apid.conf.settings import Http
from tests.support.apps import framing
from tests.support.client import AnswerError, Connection, request_bytes
from tests.support.engine import wait_for


def test_a_small_answer_has_its_length_and_a_date(connection):
    answer = connection.request()
    assert (answer.status, answer.body) == (200, b"body")
    assert answer.header("Content-Length") == "4"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.header("Date"))
    assert answer.header("Server") is None
    assert connection.request().status == 200


def test_pipelined_requests_are_answered_in_order(connection):
    connection.send(
        request_bytes(path="/list") + request_bytes("POST", "/echo", body=b"abc") + request_bytes(path="/empty")
    )
    assert [connection.answer().body for _ in range(3)] == [b"onetwo", b"abc", b""]


def test_a_request_octet_by_octet(connection):
    for octet in request_bytes("POST", "/echo", body=b"slow"):
        connection.send(bytes([octet]))
    assert connection.answer().body == b"slow"


def test_a_stream_is_chunked_in_1_1_and_ends_with_the_connection_in_1_0(engine, connection):
    answer = connection.request(path="/streamed")
    assert (answer.chunked, answer.body) == (True, b"abc")
    connection.send(b"GET /streamed HTTP/1.0\r\n\r\n")
    rest = connection.rest()
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest.endswith(b"Connection: close\r\n\r\nabc")


def test_http_1_0_keeps_a_connection_that_asks_for_it(connection):
    connection.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    answer = connection.answer()
    assert answer.header("Connection") == "keep-alive"
    assert connection.request().body == b"body"


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/"), ("HEAD", "/streamed"), ("GET", "/204"), ("GET", "/304")])
def test_no_content_where_there_is_none(connection, method, path):
    connection.send(request_bytes(method, path) + request_bytes())
    answer = connection.answer(method)
    assert answer.body == b""
    assert answer.header("Transfer-Encoding") is None
    if path == "/204":
        assert answer.header("Content-Length") is None
    assert connection.answer().body == b"body"


def test_more_than_the_length_is_cut_and_the_connection_closed(connection, engine):
    for path in ("/long", "/long-list"):
        with Connection(engine.address) as one:
            answer = one.request(path=path)
            assert len(answer.body) == 2
            assert one.ended() or one.rest() == b""
    assert "more than its Content-Length" in engine.logged()


def test_less_than_the_length_is_an_error_that_the_client_sees(engine):
    for path in ("/short", "/short-list"):
        with Connection(engine.address) as one, pytest.raises(AnswerError):
            one.request(path=path)
    assert "less than its Content-Length" in engine.logged()


@pytest.mark.parametrize(
    "path",
    ["/bytes-value", "/number-value", "/number-length", "/three-parts", "/crlf", "/lf",
     "/nul", "/bad-name", "/bad-status", "/informational", "/not-latin-1", "/bad-length", "/two-lengths",
     "/no-bytes", "/silent", "/raise", "/exit", "/interrupt"],
)  # fmt: skip
def test_what_must_not_go_out_becomes_a_fault_without_details(engine, connection, path):
    answer = connection.request(path=path)
    assert answer.status == 500
    assert answer.closes
    assert answer.header("X-Injected") is None
    fault = answer.json()["internalServerError"]
    assert fault["code"] == 500
    assert "Traceback" not in answer.text
    assert "secret" not in answer.text
    assert answer.header("X-Openstack-Request-Id") in engine.logged()
    assert connection.rest() == b""
    with Connection(engine.address) as after:
        assert after.request().body == b"body"


def test_a_fault_for_head_has_no_content(connection):
    answer = connection.request("HEAD", "/raise")
    assert (answer.status, answer.closes) == (500, True)
    assert connection.rest() == b""


def test_what_an_application_does_to_its_environ_harms_only_itself(engine, connection):
    assert connection.request(path="/empties").body == b"emptied"
    answer = connection.request(path="/renames")
    assert answer.status == 500
    assert answer.header("X-Injected") is None
    assert re.fullmatch(r"req-[0-9a-f-]{36}", answer.header("X-Openstack-Request-Id"))
    assert connection.rest() == b""
    lines = wait_for(lambda: (text := engine.flushed(engine.access_log)).count("/renames") and text.splitlines())
    assert all(re.search(r'^\S+ - \S+ \[.*\] "[^"]*" \d+ \d+ [\d.]+ req-[0-9a-f-]{36}$', line) for line in lines), lines


def test_an_error_in_the_middle_breaks_the_chunks(engine):
    with Connection(engine.address) as one, pytest.raises(AnswerError):
        one.request(path="/fails-late")
    assert "in the middle" in engine.logged()


def test_write_and_exc_info(connection):
    assert connection.request(path="/written").body == b"onetwothree"
    answer = connection.request(path="/rescued")
    assert (answer.status, answer.body) == (503, b"rescued")
    with pytest.raises(AnswerError):
        connection.request(path="/too-late")


def test_connection_close_of_the_application_is_honoured(connection):
    answer = connection.request(path="/close")
    assert answer.header("Connection") == "close"
    assert connection.rest() == b""


def test_hop_by_hop_fields_are_the_servers(connection):
    answer = connection.request(path="/hop")
    assert answer.header("Transfer-Encoding") is None
    assert answer.header("Keep-Alive") is None
    assert answer.header("Connection") is None
    assert answer.body == b"body"


def test_a_426_says_what_to_upgrade_to(connection):
    answer = connection.request(path="/426")
    assert (answer.header("Upgrade"), answer.header("Connection")) == ("websocket", "upgrade")
    answer = connection.request(path="/426-close")
    assert (answer.header("Upgrade"), answer.header("Connection")) == ("websocket", "upgrade, close")
    assert connection.rest() == b""


def test_a_file_is_sent_whole(connection):
    with open(framing.__file__, "rb") as file:
        assert connection.request(path="/file").body == file.read()


@pytest.mark.parametrize(("method", "content"), [("GET", b"whole"), ("HEAD", b"")])
def test_a_close_that_fails_leaves_the_answer_whole(connection, method, content):
    assert connection.request(method, "/unclosable").body == content
    assert connection.rest() == b""


def test_each_piece_goes_out_at_once_unless_the_application_wants_more(connection):
    connection.send(request_bytes(path="/streamed"))
    assert b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n" in _until(connection, b"0\r\n\r\n")
    connection.send(request_bytes(path="/minimum"))
    assert b"4\r\nabcd\r\n1\r\ne\r\n0\r\n\r\n" in _until(connection, b"0\r\n\r\n")


def _until(connection, end):
    data = b""
    while not data.endswith(end):
        data += connection.sock.recv(65536)
    return data


def test_a_client_that_leaves_ends_the_iteration_and_close_is_called(engine):
    last(engine)
    with Connection(engine.address) as one:
        one.send(request_bytes(path="/endless"))
        one.sock.recv(100000)
        one.reset()
    assert wait_for(lambda: last(engine)["closed"] == 1)


def last(engine):
    with Connection(engine.address) as one:
        return one.request(path="/last").json()


@pytest.mark.only("eventlet", "posthooks are a key of its own in the environ")
def test_a_posthook_that_fails_harms_nobody(engine, connection):
    assert connection.request(path="/bad-hook").body == b"x"
    wait_for(lambda: "a posthook failed" in engine.logged())  # they run after the answer
    assert connection.request().body == b"body"


@pytest.mark.only("eventlet", "posthooks are a key of its own in the environ")
def test_posthooks_run_after_the_answer(engine, connection):
    assert connection.request(path="/hooks").body == b"x"
    assert last(engine)["error"] == "hooked"


def test_a_big_answer_is_whole_for_a_slow_reader(connection):
    connection.send(request_bytes(path="/big?200"))
    time.sleep(0.2)  # lets the socket buffers fill, so that the engine has to wait for room
    answer = connection.answer()
    assert len(answer.body) == 200 * 65536
    assert connection.request().body == b"body"


def test_the_environ(engine, connection):
    environ = connection.request("GET", "/environ?a=b", headers={"X-One": "1"}).json()
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["REMOTE_PORT"] == str(connection.sock.getsockname()[1])
    assert environ["SERVER_NAME"] == "127.0.0.1"
    assert environ["SERVER_PORT"] == str(engine.address[1])
    assert environ["QUERY_STRING"] == "a=b"
    assert environ["HTTP_X_ONE"] == "1"
    assert environ["wsgi.multiprocess"] is True
    assert environ["wsgi.input_terminated"] is True
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["draining"] is False
    assert "CONTENT_TYPE" not in environ
    assert re.fullmatch(
        r"req-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", environ["apid.request_id"]
    )
    second = connection.request("GET", "/environ").json()
    assert int(second["apid.request_id"][-12:], 16) == int(environ["apid.request_id"][-12:], 16) + 1


def test_request_ids_are_numbers_in_a_row_also_past_the_first_octet(connection):
    ids = [json.loads(connection.request(path="/environ").body)["apid.request_id"] for _ in range(600)]
    assert len({one[:-12] for one in ids}) == 1
    numbers = [int(one[-12:], 16) for one in ids]
    assert numbers == list(range(numbers[0], numbers[0] + 600))


def test_a_malformed_request_is_answered_and_logged(engine, connection):
    connection.send(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n")
    answer = connection.answer()
    assert answer.status == 400
    assert answer.closes
    assert answer.header("X-Openstack-Request-Id") in engine.logged()
    assert answer.header("Date")
    assert connection.rest() == b""


def test_a_head_that_ends_early_is_answered(connection):
    connection.send(b"GET / HTTP/1.1\r\nHo")
    connection.sock.shutdown(1)
    assert connection.answer().status == 400


def test_a_half_closed_client_still_gets_its_answer(connection):
    connection.send(request_bytes())
    connection.sock.shutdown(1)
    assert connection.answer().body == b"body"
    assert connection.rest() == b""


@pytest.mark.only("eventlet", "eventlet.websocket needs eventlet.input")
def test_websocket_of_eventlet(engine):
    key = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    frame = bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi"
    with Connection(engine.address) as one:
        one.send(
            request_bytes(path="/websocket", headers=key) + frame
        )  # the first frame in the same packet as the request
        data = _until(one, b"hi")
        assert data.startswith(b"HTTP/1.1 101")
        one.send(frame)
        assert one.sock.recv(100) == b"\x81\x02hi"
        one.send(bytes([0x88, 0x80, 0, 0, 0, 0]))
        one.rest()
    # eventlet leaves a mark in the green thread, which the next request gets: that one's answer is its own matter.
    with Connection(engine.address) as after:
        assert after.request(path="/silent").status == 500


def test_the_access_log_has_a_line_for_each(engine, connection):
    answer = connection.request("GET", '/nowhere"\\')
    assert answer.status == 404

    def lines():
        text = engine.flushed(engine.access_log)
        return [line for line in text.splitlines() if "/nowhere\\x22" in line]

    [line] = wait_for(lines)
    assert re.fullmatch(
        r'127\.0\.0\.1 - - \[[^]]+\] "GET /nowhere\\x22\\x5c HTTP/1.1" 404 \d+ 0\.\d{6} req-[-0-9a-f]+', line
    ), json.dumps(line)


def test_escaped_control_characters_reach_the_application_and_no_log(engine, connection):
    assert connection.request(path="/nowhere%00%0a%1b%7f%c2%85").status == 404
    assert b"\r\n\r\n" not in connection.request(path="/nowhere%0d%0a%0d%0a").body
    lines = wait_for(lambda: (text := engine.flushed(engine.access_log)).count("/nowhere%0") > 1 and text.splitlines())
    assert any("GET /nowhere%00%0a%1b%7f%c2%85 HTTP/1.1" in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_headers_raw_only_when_asked_for(serving):
    with serving(framing.app, Http(eventlet_headers_raw=True)) as engine, Connection(engine.address) as one:
        answer = one.request(path="/headers-raw", headers={"x-Odd-CASE": " v "})
        assert answer.json() == [["Host", "localhost"], ["x-Odd-CASE", "v"]]
    with serving(framing.app) as engine, Connection(engine.address) as one:
        assert one.request(path="/headers-raw").json() is None


def test_context_variables_are_new_for_each_request(connection):
    assert [connection.request(path="/context").text for _ in range(3)] == ["nothing"] * 3
