"""Raises on /before (the answer starts), /middle (after the first block of it) and exits on /exit; else answers."""

from __future__ import annotations

import os
import sys


class AppFault(Exception):
    """The application's own."""


def factory(global_conf, **local_conf):
    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/before":
            raise AppFault("secret detail of the application")
        if path == "/exit":
            sys.exit(3)
        if path == "/middle":
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "1000")])
            return middle()
        body = f"fine pid={os.getpid()}\n".encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app


def middle():
    yield b"x" * 10
    raise AppFault("secret detail of the application")
