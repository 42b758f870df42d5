"""T1, T3 and T4 from the client's side: nova's pipeline, methods and routes, and faults of every origin, by the real daemon."""

from __future__ import annotations

import json
import pathlib
import socket

from tests.support.client import Connection, get

TOP = pathlib.Path(__file__).parents[2]
NOVA = (TOP / "tests" / "wsgi" / "ini" / "nova-2013.ini").read_text(encoding="utf-8")
SHIPPED = (TOP / "etc" / "apid" / "api-paste.ini").read_text(encoding="utf-8")

BROKEN = '''
"""A filter and an application that fail in every way."""

import webob.exc

from apid.wsgi import faults


class Filter:
    def __init__(self, app):
        self.app = app

    @classmethod
    def factory(cls, global_conf, **local_conf):
        return cls

    def __call__(self, environ, start_response):
        kind = environ["PATH_INFO"].strip("/")
        if kind == "bug":
            raise RuntimeError("secret /etc/shadow")
        if kind == "webob":
            raise webob.exc.HTTPConflict(explanation="from a filter")
        if kind == "ours":
            raise faults.Forbidden("from a filter too")
        return self.app(environ, start_response)


def app_factory(global_conf, **local_conf):
    def lazy(environ, start_response):
        raise ValueError("secret as well")
        yield b""

    return lazy
'''
FAILING = """
[pipeline:main]
pipeline = faultwrap requestid broken app
[filter:faultwrap]
use = egg:apid#faultwrap
[filter:requestid]
use = egg:apid#requestid
[filter:broken]
paste.filter_factory = failing:Filter.factory
[app:app]
paste.app_factory = failing:app_factory
"""


def test_t1_novas_pipeline(daemon):
    running = daemon(
        paste=NOVA,
        sections={"paste_deploy": {"app_name": "osapi_compute"}},
        workers=2,
    ).start()
    with Connection(running.address) as client:
        assert client.request("GET", "/").status == 300
        issued = client.request("GET", "/v1/", headers={"X-Auth-User": "u", "X-Auth-Project-Id": "p"})
        assert (issued.status, issued.header("X-Auth-Token")) == (204, "u:p")
    codes = [get(running.address, "/v1/extensions", headers={"X-Auth-Token": "u:p"}).status for _ in range(5)]
    assert codes == [200, 200, 200, 429, 429]


def test_t3_methods_and_routes(daemon):
    running = daemon(paste=SHIPPED, workers=1).start()
    with Connection(running.address) as client:
        refused = client.request("DELETE", "/v1/extensions")
        assert (refused.status, refused.header("Allow")) == (405, "GET, HEAD, OPTIONS")
        told = client.request("OPTIONS", "/v1/extensions/x")
        assert (told.status, told.header("Allow")) == (204, "GET, HEAD, OPTIONS")
        assert client.request("HEAD", "/v1/").status == 200
        assert client.request("GET", "/v1/").json()["version"]["id"] == "v1"
        assert client.request("GET", "/v1/extensions%0a").status == 404
        assert client.request("GET", "/v1/%ff").status == 400


def test_t4_every_fault_is_json_with_code_message_and_id(daemon):
    failing = daemon(paste=FAILING, workers=1)
    (failing.directory / "failing.py").write_text(BROKEN, encoding="utf-8")
    failing.allow(r"ERROR.* failed", r"^Traceback ")
    running = failing.start()
    generic = "The server has either erred or is incapable of performing the requested operation."
    wanted = {
        "/bug": (500, "computeFault", generic),
        "/lazy": (500, "computeFault", generic),
        "/webob": (409, "conflictingRequest", "from a filter"),
        "/ours": (403, "forbidden", "from a filter too"),
    }
    with Connection(running.address) as client:
        for path, (code, name, message) in wanted.items():
            answer = client.request("GET", path)
            assert answer.status == code
            assert answer.header("Content-Type") == "application/json; charset=UTF-8"
            document = json.loads(answer.body)
            assert (document[name]["code"], document[name]["message"]) == (code, message)
            assert document[name]["request_id"] == answer.header("X-Openstack-Request-Id")
            if code == 500:
                running.wait_for_log(document[name]["request_id"])
    assert "secret /etc/shadow" in running.log()


def test_t4_what_a_client_did_wrong_is_no_error_of_the_application(daemon):
    running = daemon(paste=SHIPPED, workers=1).start()  # a line of ERROR in its log fails the test
    head = b"POST /v1/animals HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for rest in (b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", b"Content-Length: 100\r\n\r\n{"):
        with Connection(running.address) as client:
            client.send(head + rest)
            client.sock.shutdown(socket.SHUT_WR)
            answer = client.answer()
            assert (answer.status, answer.closes) == (400, True)
            assert answer.json()["badRequest"]["code"] == 400
