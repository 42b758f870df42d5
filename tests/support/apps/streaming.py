"""Yields `count` numbered lines, one each `interval` seconds, without a length: an answer that is under way for long."""

from __future__ import annotations

import time
from urllib.parse import parse_qs


def factory(global_conf, count="10", interval="0.1", **local_conf):
    def app(environ, start_response):
        query = parse_qs(environ.get("QUERY_STRING", ""))
        environ["eventlet.minimum_write_chunk_size"] = 0
        start_response("200 OK", [("Content-Type", "text/plain")])
        return lines(int(query.get("n", [count])[0]), float(query.get("i", [interval])[0]))

    return app


def lines(count, interval):
    for number in range(count):
        yield f"line {number}\n".encode()
        time.sleep(interval)
