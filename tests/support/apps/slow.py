"""Sleeps green `seconds` (query `?s=` overrides) before it answers: a request that is in flight for as long as a test needs.

Each appends a line to the file `began` when it is called, so that a test knows that it is.
"""

from __future__ import annotations

import os
import time
from urllib.parse import parse_qs


def factory(global_conf, seconds="1", began=None, **local_conf):
    def app(environ, start_response):
        if began:
            with open(began, "a", encoding="utf-8") as file:
                file.write(environ["PATH_INFO"] + "\n")
        query = parse_qs(environ.get("QUERY_STRING", ""))
        time.sleep(float(query.get("s", [seconds])[0]))
        body = f"slow pid={os.getpid()}\n".encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app
