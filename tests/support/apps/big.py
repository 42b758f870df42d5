"""GET gives `size` bytes (query `?size=`) in 64 KiB blocks; POST and PUT read the whole body and answer its length and CRC."""

from __future__ import annotations

import os
import zlib
from urllib.parse import parse_qs

BLOCK = bytes(range(256)) * 256


def factory(global_conf, size="1048576", **local_conf):
    def app(environ, start_response):
        if environ["REQUEST_METHOD"] in {"POST", "PUT"}:
            return receive(environ, start_response)
        query = parse_qs(environ.get("QUERY_STRING", ""))
        total = int(query.get("size", [size])[0])
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(total))])
        return blocks(total)

    return app


def blocks(total):
    while total > 0:
        yield BLOCK[:total]
        total -= len(BLOCK)


def receive(environ, start_response):
    length = crc = 0
    while block := environ["wsgi.input"].read(65536):
        length += len(block)
        crc = zlib.crc32(block, crc)
    body = f"length={length} crc={crc:08x} pid={os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
