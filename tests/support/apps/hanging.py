"""Blocks its native thread on request, under eventlet the whole worker: /loop (tight loop), /sleep (unpatched), /gil (a C call
that keeps the GIL), /lock (a real lock taken twice). Any other path answers at once. `?after=` is a time in seconds to wait
before, cooperatively.

Before it blocks, it makes the file `began`.
"""

from __future__ import annotations

import os
import pathlib
import re
import time
from urllib.parse import parse_qs

from tests.support.apps import original

HOWS = ("loop", "sleep", "gil", "lock")


def _hang(how):
    if how == "loop":
        while True:
            pass
    elif how == "sleep":
        original("time").sleep(3600)
    elif how == "gil":
        re.fullmatch("(a*)*b", "a" * 64)  # 2**64 steps in C; a sleep(3) would be ended by the first signal
    elif how == "lock":
        lock = original("_thread").allocate_lock()
        lock.acquire()
        lock.acquire()


def factory(global_conf, began=None, **local_conf):
    def app(environ, start_response):
        time.sleep(float(parse_qs(environ["QUERY_STRING"]).get("after", ["0"])[0]))
        how = environ["PATH_INFO"].lstrip("/")
        if began and how in HOWS:
            pathlib.Path(began).touch()
        _hang(how)
        body = f"fine pid={os.getpid()}\n".encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app
