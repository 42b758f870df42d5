"""Applications that never wait, by path, and what shows whether others get a turn."""

import ctypes
import json
import threading
import time

ENDS = []


class Body:
    """An iterable that notes its end."""

    def __init__(self, pieces):
        self.pieces = pieces

    def __iter__(self):
        return self.pieces

    def close(self):
        ENDS.append("closed")


def forever(piece, first=()):
    yield from first
    while True:
        yield piece


def writes(start, status, piece):
    write = start(status, [])
    try:
        while True:
            write(piece)
    finally:
        ENDS.append("closed")


def reads(env, call):
    while not env["apid.client_gone"]():
        call(env["wsgi.input"])
    ENDS.append("closed")
    return []


ENDLESS = {
    "empty pieces": lambda env, start: start("200 OK", []) and Body(forever(b"")),
    "empty pieces after data": lambda env, start: start("200 OK", []) and Body(forever(b"", [b"data"])),
    "empty pieces after all data": lambda env, start: (
        start("200 OK", [("Content-Length", "4")]) and Body(forever(b"", [b"data"]))
    ),
    "empty pieces, no content": lambda env, start: start("204 No Content", []) and Body(forever(b"")),
    "empty pieces, not modified": lambda env, start: start("304 Not Modified", []) and Body(forever(b"")),
    "held pieces": lambda env, start: (
        start("200 OK", [])
        and env.update({"eventlet.minimum_write_chunk_size": 1 << 40}) is None
        and Body(forever(b"x"))
    ),
    "empty writes": lambda env, start: writes(start, "200 OK", b""),
    "writes, no content": lambda env, start: writes(start, "204 No Content", b"data"),
    "reads of zero": lambda env, start: reads(env, lambda given: given.read(0)),
    "reads at the end": lambda env, start: reads(env, lambda given: given.read(10)),
    "reads of all at the end": lambda env, start: reads(env, lambda given: given.read()),
    "lines at the end": lambda env, start: reads(env, lambda given: given.readline()),
    "lists of lines at the end": lambda env, start: reads(env, lambda given: given.readlines()),
}
ENDING = {
    "data, no content": lambda env, start: start("204 No Content", []) and Body(forever(b"data")),
    "data, not modified": lambda env, start: start("304 Not Modified", []) and Body(forever(b"data")),
    "data beyond the length": lambda env, start: start("200 OK", [("Content-Length", "2")]) and Body(forever(b"data")),
}


def app(env, start):
    name = env["PATH_INFO"][1:].replace("_", " ")
    if found := {**ENDLESS, **ENDING}.get(name):
        return found(env, start)
    if name == "gone":
        gone = env["apid.client_gone"]
        before = gone()
        until = time.monotonic() + 5
        while not gone() and time.monotonic() < until:
            time.sleep(0.01)
        ENDS.append([before, gone()])
        start("200 OK", [])
        return [b"", b"for one ", b"that only listens"]
    if name == "short":
        start("200 OK", [])
        return Body(iter([b"a", b"", b"b", b""]))
    start("200 OK", [])
    ended, ENDS[:] = list(ENDS), []
    return [json.dumps(ended).encode()]


def in_a_native_thread(env, start):
    """Content is read in a native thread beside eventlet's."""
    from eventlet import tpool

    def read():
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            env["wsgi.input"].read()
        return b"read"

    start("200 OK", [])
    return [tpool.execute(read)]


def duplex(env, start):
    """The answer is sent while another thread reads the content."""

    def consume():
        while env["wsgi.input"].read(65536):
            pass

    threading.Thread(target=consume, daemon=True).start()
    start("200 OK", [])
    return forever(b"x" * 65536)


PIECE = b"x" * 65536
PIECES = 256


def transfer(env, start):
    """A download, or an upload, of PIECES; its answer ends with the number of turns that another thread had meanwhile."""
    start("200 OK", [])
    if env["REQUEST_METHOD"] == "GET":
        return with_turns(PIECE for _ in range(PIECES))
    return with_turns(b"" for _ in iter(lambda: env["wsgi.input"].read(65536), b""))


def with_turns(pieces):
    turns, over = 0, False
    work = ctypes.CDLL(None).usleep  # no green thread has a turn meanwhile

    def other():
        nonlocal turns
        while not over:
            turns += 1
            time.sleep(0)

    threading.Thread(target=other, daemon=True).start()
    for piece in pieces:
        work(1000)  # the client always keeps up: there is never a reason to wait for it
        yield piece
    over = True
    yield b" %d" % turns
