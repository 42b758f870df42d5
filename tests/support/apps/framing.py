"""Answers of every shape, legal and not, by path; the engine's tests ask for them."""

from __future__ import annotations

import contextvars
import ctypes
import hashlib
import json
import os
import sys
import tempfile
import time

TEXT = [("Content-Type", "text/plain")]
SEEN = contextvars.ContextVar("SEEN", default="nothing")
LAST = {"closed": 0, "yielded": 0, "error": ""}


class Body:
    """An iterable that counts its end."""

    def __init__(self, pieces, fail=None):
        self.pieces, self.fail = pieces, fail

    def __iter__(self):
        for piece in self.pieces:
            LAST["yielded"] += 1
            yield piece
        if self.fail:
            raise self.fail

    def close(self):
        LAST["closed"] += 1


def environ(env, start):
    shown = {key: value for key, value in env.items() if isinstance(value, (str, int, bool))}
    shown["draining"] = env["apid.worker_draining"]()
    start("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(shown).encode()]


def echo(env, start):
    data = env["wsgi.input"].read()
    start("200 OK", TEXT)
    return [data]


def catches(env, start):
    try:
        data = env["wsgi.input"].read()
    except Exception as error:  # noqa: BLE001 -- as a middleware that makes a fault of everything does
        start(f"{env['QUERY_STRING']} Fault", TEXT)
        return [type(error).__name__.encode()]
    start("200 OK", TEXT)
    return [data]


def sink(env, start):
    while env["wsgi.input"].read(65536):
        pass
    start("200 OK", TEXT)
    return [b"done"]


def empties(env, start):
    env.clear()
    start("200 OK", TEXT)
    return [b"emptied"]


def renames(env, start):
    env["apid.request_id"] = "req-1\r\nX-Injected: 1"
    env["REMOTE_ADDR"] = "192.0.2.1\r\n192.0.2.2"
    raise ValueError("after that")


def lines(env, start):
    found = list(env["wsgi.input"])
    start("200 OK", TEXT)
    return [json.dumps([line.decode() for line in found]).encode()]


def digest(env, start):
    found, size = hashlib.sha256(), 0
    while data := env["wsgi.input"].read(65536):
        found.update(data)
        size += len(data)
    start("200 OK", TEXT)
    return [f"{size} {found.hexdigest()}".encode()]


def big(env, start):
    count, piece = int(env["QUERY_STRING"] or 100), b"x" * 65536
    start("200 OK", [*TEXT, ("Content-Length", str(count * len(piece)))])
    return Body(piece for _ in range(count))


def big_list(env, start):
    start("200 OK", TEXT)
    return [b"x" * 65536 * int(env["QUERY_STRING"])]


class Unclosable:
    """An iterable whose end fails."""

    def __iter__(self):
        return iter([b"whole"])

    def close(self):
        raise ValueError("at the end")


def unclosable(env, start):
    start("200 OK", TEXT)
    return Unclosable()


def big_file(env, start):
    made = tempfile.TemporaryFile()  # noqa: SIM115 -- the file wrapper closes it
    made.truncate(200 * 65536)
    start("200 OK", TEXT)
    return env["wsgi.file_wrapper"](made)


def slowly(env, start):
    env["wsgi.input"].read(150)
    time.sleep(1.5)
    return echo(env, start)


def drops(env, start):
    start("200 OK", TEXT)
    return Body(b"drop" for _ in range(int(env["QUERY_STRING"])))


def sips(env, start):
    count = 0
    while env["wsgi.input"].read(100):
        count += 1
    start("200 OK", TEXT)
    return [str(count).encode()]


def endless(env, start):
    start("200 OK", TEXT)

    def forever():
        while True:
            yield b"x" * 65536

    return Body(forever())


def file(env, start):
    start("200 OK", TEXT)
    return env["wsgi.file_wrapper"](open(__file__, "rb"))


def written(env, start):
    write = start("200 OK", TEXT)
    write(b"one")
    write(b"two")
    return [b"three"]


def rescued(env, start):
    start("200 OK", TEXT)
    try:
        raise ValueError("on the way")
    except ValueError:
        start("503 Sorry", TEXT, sys.exc_info())
    return [b"rescued"]


def too_late(env, start):
    start("200 OK", TEXT)(b"begun")
    try:
        raise ValueError("too late")
    except ValueError:
        start("503 Sorry", TEXT, sys.exc_info())
    return [b"never"]


def hooks(env, start):
    env["eventlet.posthooks"].append((lambda env, text: LAST.update(error=text), ("hooked",), {}))
    start("200 OK", TEXT)
    return [b"x"]


def bad_hook(env, start):
    env["eventlet.posthooks"].append(lambda env: None)
    start("200 OK", TEXT)
    return [b"x"]


def websocket(env, start):
    from eventlet import websocket as eventlet_websocket

    def handle(ws):
        while (message := ws.wait()) is not None:
            ws.send(message)

    return eventlet_websocket.WebSocketWSGI(handle)(env, start)


def sleep(env, start):
    time.sleep(float(env["QUERY_STRING"]))
    start("200 OK", TEXT)
    return [b"slept"]


def block(env, start):
    """Nothing else of the process runs: a PyDLL keeps the interpreter's lock."""
    ctypes.PyDLL(None).usleep(int(float(env["QUERY_STRING"]) * 1e6))
    start("200 OK", TEXT)
    return [b"blocked"]


def swallow(env, start):
    body = Body([])
    try:
        time.sleep(float(env["QUERY_STRING"]))
    except Exception:  # noqa: BLE001 -- an application that swallows everything is what is tested
        pass
    finally:
        body.close()
    start("200 OK", TEXT)
    return [b"slept"]


def begins(env, start):
    start("200 OK", [])
    yield b"begun"
    time.sleep(float(env["QUERY_STRING"]))


def context(env, start):
    said = SEEN.get()
    SEEN.set("mine")
    start("200 OK", TEXT)
    return [said.encode()]


def headers_raw(env, start):
    start("200 OK", TEXT)
    return [json.dumps(env.get("headers_raw")).encode()]


def with_continue_fields(env, start):
    env["eventlet.input"].set_hundred_continue_response_headers([("x-told", "early")])
    return echo(env, start)


def plain(status="200 OK", fields=(), pieces=(b"body",)):
    def app(env, start):
        start(status, [*TEXT, *fields])
        return list(pieces)

    return app


def streamed(fields=(), pieces=(b"a", b"", b"bc"), fail=None, status="200 OK"):
    def app(env, start):
        start(status, [*TEXT, *fields])
        return Body(pieces, fail)

    return app


def raising(error):
    def app(env, start):
        raise error

    return app


def last(env, start):
    start("200 OK", TEXT)
    data = json.dumps(LAST).encode()
    LAST.update(closed=0, yielded=0, error="")
    return [data]


def silent(env, start):
    return []


def minimum(env, start):
    env["eventlet.minimum_write_chunk_size"] = 4
    return streamed(pieces=(b"ab", b"cd", b"e"))(env, start)


PATHS = {
    "/": plain(),
    "/environ": environ,
    "/echo": echo,
    "/lines": lines,
    "/digest": digest,
    "/sink": sink,
    "/big": big,
    "/big-list": big_list,
    "/big-file": big_file,
    "/slowly": slowly,
    "/drops": drops,
    "/sips": sips,
    "/endless": endless,
    "/file": file,
    "/unclosable": unclosable,
    "/written": written,
    "/rescued": rescued,
    "/too-late": too_late,
    "/hooks": hooks,
    "/bad-hook": bad_hook,
    "/catches": catches,
    "/empties": empties,
    "/renames": renames,
    "/websocket": websocket,
    "/sleep": sleep,
    "/block": block,
    "/swallow": swallow,
    "/begins": begins,
    "/context": context,
    "/headers-raw": headers_raw,
    "/continue-fields": with_continue_fields,
    "/last": last,
    "/silent": silent,
    "/minimum": minimum,
    "/list": plain(pieces=(b"one", b"two")),
    "/empty": plain(pieces=()),
    "/streamed": streamed(),
    "/204": plain("204 No Content"),
    "/304": plain("304 Not Modified", [("Content-Length", "4")]),
    "/long": streamed([("Content-Length", "2")]),
    "/short": streamed([("Content-Length", "9")]),
    "/short-list": plain(fields=[("Content-Length", "9")]),
    "/long-list": plain(fields=[("Content-Length", "2")]),
    "/bad-length": plain(fields=[("Content-Length", "-1")]),
    "/two-lengths": plain(fields=[("Content-Length", "4"), ("content-length", "5")]),
    "/crlf": plain(fields=[("X-A", "a\r\nX-Injected: 1")]),
    "/lf": plain(fields=[("X-A", "a\nX-Injected: 1")]),
    "/nul": plain(fields=[("X-A", "a\0b")]),
    "/bytes-value": plain(fields=[("X-A", b"b")]),
    "/number-value": plain(fields=[("X-A", 5)]),
    "/number-length": plain(fields=[("Content-Length", 4)]),
    "/three-parts": plain(fields=[("X-A", "a", "b")]),
    "/426": plain("426 Upgrade Required", [("Upgrade", "websocket")]),
    "/426-close": plain("426 Upgrade Required", [("Upgrade", "websocket"), ("Connection", "upgrade, close")]),
    "/bad-name": plain(fields=[("X A", "b")]),
    "/bad-status": plain("200 OK\r\nX-Injected: 1"),
    "/informational": plain("100 Continue"),
    "/not-latin-1": plain(fields=[("X-A", "\u20ac")]),
    "/close": plain(fields=[("Connection", "close")]),
    "/hop": plain(fields=[("Transfer-Encoding", "chunked"), ("Keep-Alive", "timeout=5"), ("Connection", "upgrade")]),
    "/text": plain(pieces=("text",)),
    "/no-bytes": plain(pieces=(5,)),
    "/raise": raising(ValueError("secret detail")),
    "/exit": raising(SystemExit(3)),
    "/interrupt": raising(KeyboardInterrupt()),
    "/fails-late": streamed(fail=ValueError("in the middle")),
}


def app(env, start):
    """The application."""
    found = PATHS.get(env["PATH_INFO"])
    if found is None:
        start("404 Not Found", TEXT)
        return [b"no such path"]
    return found(env, start)


def pid(env, start):
    """Who serves."""
    start("200 OK", TEXT)
    return [str(os.getpid()).encode()]


def busy_or_pid(env, start):
    """Who serves; /busy?SECONDS computes first."""
    if env["PATH_INFO"] == "/busy":
        until = time.monotonic() + float(env["QUERY_STRING"])
        while time.monotonic() < until:
            pass
    return pid(env, start)


def factory(_global_conf):
    """The same for Paste Deploy."""
    return app
