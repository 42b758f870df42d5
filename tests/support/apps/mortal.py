"""Ends its worker as many seconds after it was loaded as the file `after` says at that moment; never where there is none."""

from __future__ import annotations

import os
import pathlib
import threading


def factory(global_conf, after, **local_conf):
    path = pathlib.Path(after)
    if path.exists():
        timer = threading.Timer(float(path.read_text(encoding="utf-8")), os._exit, [9])
        timer.daemon = True
        timer.start()

    def app(environ, start_response):
        body = f"mortal pid={os.getpid()}\n".encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app
