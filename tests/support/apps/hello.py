"""Answers at once, with the worker's pid and what the environ says of it, so that a test can tell workers apart."""

from __future__ import annotations

import os


def factory(global_conf, word="hello", **local_conf):
    def app(environ, start_response):
        body = f"{word} pid={os.getpid()}\n".encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app
