"""Keeps `kib` KiB of touched memory a request, for ever."""

from __future__ import annotations

import os


def factory(global_conf, kib="1024", **local_conf):
    kept = []
    size = int(kib) * 1024

    def app(environ, start_response):
        kept.append(os.urandom(1) * size)
        body = f"kept={len(kept)} pid={os.getpid()}\n".encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app
