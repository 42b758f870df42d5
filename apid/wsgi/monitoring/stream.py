"""The dashboard's server-sent events: the status document once a second, as WHATWG HTML 9.2 has it.

A stream is a request that is answered slowly. It sleeps with time.sleep, which is green under engine = eventlet and holds a
native thread elsewhere. It ends when its worker drains or the client is gone, and the page then asks again.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

from apid.wsgi import answer, faults
from apid.wsgi.monitoring import source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

EVERY = 1.0
"""Seconds between two events."""

LOOK = 0.2
"""Seconds between two looks whether the worker drains: a stream holds a drain up for no longer."""

LONGEST = 600.0
"""Seconds of one stream; the page asks again, and perhaps another worker."""

FLIGHTS = 20
"""Requests in flight that are told of each worker."""


class Streams:
    """Answers /events, to so many at once."""

    def __init__(self, most: int) -> None:
        self._room = threading.Semaphore(most)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        try:
            source.read(environ)
        except faults.NotFound as fault:
            return faults.render(fault, environ, start_response)
        headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"), ("X-Accel-Buffering", "no")]
        if environ["REQUEST_METHOD"] == "HEAD":
            return answer.send(start_response, 200, headers)
        if not self._room.acquire(blocking=False):
            busy = faults.Unavailable("Too many pages are open.", headers={"Retry-After": "5"})
            return faults.render(busy, environ, start_response)
        start_response("200 OK", headers)
        return _Stream(environ, self._room.release)


class _Stream:
    """One; an object, because a generator that was never started does not run its `finally`."""

    def __init__(self, environ: WSGIEnvironment, ended: Callable[[], object]) -> None:
        self._environ = environ
        self._draining: Callable[[], bool] = environ.get("apid.worker_draining", lambda: False)
        self._ended = ended
        self._until = time.monotonic() + LONGEST
        self._due = 0.0
        self._closed = False

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> bytes:
        first = not self._due
        while (now := time.monotonic()) < self._due:
            if self._draining():
                raise StopIteration
            time.sleep(min(LOOK, self._due - now))
        if self._draining() or now > self._until:
            raise StopIteration
        self._due = now + EVERY
        document = json.dumps(_told(source.read(self._environ, flights=FLIGHTS)), separators=(",", ":"))
        return f"{'retry: 1000' + chr(10) if first else ''}data: {document}\n\n".encode()

    def close(self) -> None:
        """The server is done with it."""
        if not self._closed:
            self._closed = True
            self._ended()


def _told(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the histogram of each worker, which is most of it and not shown."""
    workers = [{key: value for key, value in one.items() if key != "latency"} for one in document["workers"]]
    return {**document, "workers": workers, "time": time.time()}
