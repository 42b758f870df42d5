"""What a refused client gets to read."""

import json

from apid.server.protocol.error_response import Refusal, response


def test_a_json_fault_and_a_close():
    octets = response(Refusal(414, "the request line is too long"), "req-1", b"Fri, 20 Nov 2026 12:00:00 GMT")
    head, _, body = octets.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 414 URI Too Long",
        b"Date: Fri, 20 Nov 2026 12:00:00 GMT",
        b"Content-Type: application/json; charset=UTF-8",
        b"Content-Length: %d" % len(body),
        b"X-Openstack-Request-Id: req-1",
        b"Connection: close",
    ]
    assert json.loads(body) == {
        "uriTooLong": {"code": 414, "message": "The request line is too long", "request_id": "req-1"}
    }


def test_an_unnamed_status_gets_the_fallback_name():
    assert b'{"serverFault": {"code": 418, "message": "No", "request_id": "req-1"}}' in response(
        Refusal(418, "no"), "req-1"
    )
    assert b"Date" not in response(Refusal(418, "no"), "req-1")
    assert str(Refusal(418, "no")) == "418 no"
