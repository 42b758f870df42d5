"""Tells what the daemon says of leaving: JSON with `daemon` and `worker`, once the file that the path names exists in `gates` and
the worker has got its order, for which it waits 10 s at most.

The file `PATH.began` there says that the request is in flight.
"""

from __future__ import annotations

import json
import pathlib
import time


def factory(global_conf, gates, **local_conf):
    folder = pathlib.Path(gates)

    def app(environ, start_response):
        name = environ["PATH_INFO"].strip("/")
        (folder / f"{name}.began").touch()
        draining = environ["apid.worker_draining"]
        while not (folder / name).exists():
            time.sleep(0.01)
        until = time.monotonic() + 10
        while not draining() and time.monotonic() < until:
            time.sleep(0.01)
        told = {"daemon": environ["apid.draining"](), "worker": draining()}
        body = json.dumps(told).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return app
