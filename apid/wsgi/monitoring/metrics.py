"""The app `egg:apid#metrics`: the status document for Prometheus, in its text form or in OpenMetrics, as Accept says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder

from apid.wsgi import answer, faults
from apid.wsgi.factory import app_factory
from apid.wsgi.hostcheck import HostCheck, HostOptions
from apid.wsgi.monitoring import source
from apid.wsgi.monitoring.families import Families

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment


class Metrics:
    """The app."""

    def __init__(self, options: HostOptions) -> None:
        self._hosts = HostCheck(options)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        refusal = self._hosts.refusal(environ)
        if refusal is not None:
            return faults.render(refusal, environ, start_response)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return faults.render(faults.MethodNotAllowed(headers={"Allow": "GET, HEAD"}), environ, start_response)
        try:
            document = source.read(environ)
        except faults.NotFound as fault:
            return faults.render(fault, environ, start_response)
        encode, kind = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        body = encode(Families(document))
        answer.send(start_response, 200, [("Content-Type", kind), ("Cache-Control", "no-store")], body)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


app = app_factory("metrics", HostOptions, Metrics)
