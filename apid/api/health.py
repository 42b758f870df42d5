"""The backend `database` of the healthcheck: 503 while a database of the default API does not answer."""

from __future__ import annotations

from wsgiref.types import WSGIEnvironment

from apid.api.db.connection import SHARED


def database(environ: WSGIEnvironment) -> str:
    """The reason why this process should get no requests; empty when every database that it uses answers."""
    return "" if all(one.available(environ) for one in SHARED) else "DATABASE NOT AVAILABLE"
