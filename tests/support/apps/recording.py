"""Appends the id of each request to a file the moment it is executed, then echoes it: ghosts show as ids nobody got back.

The id comes in the header `X-Id`; a body is read to its end and its length echoed. One write(2) with O_APPEND a request, so
that lines of several workers never mix. `delay` seconds pass between the execution and the answer.
"""

from __future__ import annotations

import os
import time


def factory(global_conf, file=None, delay="0", **local_conf):
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644) if file else None
    pause = float(delay)

    def app(environ, start_response):
        ident = environ.get("HTTP_X_ID", "")
        length = len(environ["wsgi.input"].read()) if environ["REQUEST_METHOD"] == "POST" else 0
        if fd is not None:
            os.write(fd, f"{ident}\n".encode())
        if pause:
            time.sleep(pause)
        body = f"id={ident} length={length} pid={os.getpid()}\n".encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app
