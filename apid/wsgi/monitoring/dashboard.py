"""The app `egg:apid#dashboard`: one page for people, its parts, and the stream that feeds it. It changes nothing.

The page is files beside this module, served as they are: no build step, nothing from elsewhere, so it works without a network
and under a Content-Security-Policy that allows this origin only. The stream is in stream.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
from typing import TYPE_CHECKING
from urllib.parse import quote

from apid.wsgi import answer, faults, kinds
from apid.wsgi.factory import app_factory, option
from apid.wsgi.hostcheck import HostCheck, HostOptions
from apid.wsgi.monitoring.stream import Streams

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

_PARTS = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/dashboard.js": ("dashboard.js", "text/javascript; charset=utf-8"),
    "/chart.js": ("chart.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = [
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options(HostOptions):
    """What the app's ini section may say."""

    streams: int = option(
        kinds.integer(minimum=1, maximum=100), default=8, help="Pages that one worker feeds at once; more get 503."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One file of the page."""

    kind: str
    body: bytes
    tag: str


class Dashboard:
    """The app."""

    def __init__(self, options: Options) -> None:
        self._hosts = HostCheck(options)
        self._streams = Streams(options.streams)
        page = importlib.resources.files(__package__) / "page"
        self._parts = {path: _part((page / name).read_bytes(), kind) for path, (name, kind) in _PARTS.items()}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        refusal = self._hosts.refusal(environ)
        if refusal is not None:
            return faults.render(refusal, environ, start_response)
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return faults.render(faults.MethodNotAllowed(headers={"Allow": "GET, HEAD"}), environ, start_response)
        if path == "/events":
            return self._streams(environ, start_response)
        if not path:  # the page names its parts by relative addresses
            here = quote(environ.get("SCRIPT_NAME", "").rpartition("/")[2])
            return answer.send(start_response, 308, [("Location", f"./{here}/"), ("Content-Type", "text/plain")])
        part = self._parts.get(path)
        if part is None:
            return faults.render(faults.NotFound(), environ, start_response)
        headers = [("ETag", part.tag), ("Cache-Control", "no-cache"), *SECURITY]
        if environ.get("HTTP_IF_NONE_MATCH") == part.tag:
            return answer.send(start_response, 304, headers)
        answer.send(start_response, 200, [("Content-Type", part.kind), *headers], part.body)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [part.body]


def _part(body: bytes, kind: str) -> Part:
    return Part(kind, body, f'"{hashlib.sha256(body).hexdigest()[:20]}"')


app = app_factory("dashboard", Options, Dashboard)
