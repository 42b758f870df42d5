"""The backend `database` of the healthcheck: 503 while a database of the default API does not answer."""

from __future__ import annotations

from wsgiref.types import WSGIEnvironment

from apid.api.db.connection import SHARED, DatabaseDown


def database(environ: WSGIEnvironment) -> str:
    """The reason why this process should get no requests; empty when every database that it uses answers."""
    try:
        for one in SHARED:
            one.ping(environ)
    except DatabaseDown:
        return "DATABASE NOT AVAILABLE"
    return ""
