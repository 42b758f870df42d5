"""What is served while it is measured: plain WSGI, the same callables under every server."""

from __future__ import annotations

import itertools
import json
import time

COUNT = itertools.count(1)
HELLO = b'{"hello": "world", "number": 42}'


def server_document(number: int) -> dict[str, object]:
    """One of a list, about 160 bytes."""
    ident = f"{number:032x}"
    link = {"rel": "self", "href": f"/v2/servers/{ident}"}
    return {"id": ident, "name": f"server-{number}", "status": "ACTIVE", "links": [link]}


ANSWER = {"servers": [server_document(number) for number in range(25)]}


def hello(environ, start_response):
    """32 bytes at once."""
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(HELLO)))])
    return [HELLO]


def realistic(environ, start_response):
    """Read and parse 1 KiB of JSON, look at some headers, write 4 KiB of JSON."""
    document = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    if environ["HTTP_X_AUTH_TOKEN"] == "" or len(document["server"]["metadata"]) != 16:
        start_response("400 Bad Request", [("Content-Length", "0")])
        return [b""]
    body = json.dumps(ANSWER).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("X-Openstack-Request-Id", "req-" + document["server"]["name"]),
        ("Vary", "OpenStack-API-Version"),
    ]
    start_response("200 OK", headers)
    return [body]


def sleep(environ, start_response):
    """`hello`, after 5 ms of sleep: a database, a file, another service."""
    time.sleep(0.005)
    return hello(environ, start_response)


def rare(environ, start_response):
    """`hello`, but every hundredth request sleeps for 5 ms."""
    if next(COUNT) % 100 == 0:
        time.sleep(0.005)
    return hello(environ, start_response)


def hello_factory(global_conf, **local_conf):
    """`hello`, for paste."""
    return hello


def realistic_factory(global_conf, **local_conf):
    """`realistic`, for paste."""
    return realistic


def sleep_factory(global_conf, **local_conf):
    """`sleep`, for paste."""
    return sleep


def rare_factory(global_conf, **local_conf):
    """`rare`, for paste."""
    return rare
