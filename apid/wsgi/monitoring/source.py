"""Where the apps of this package get the status document from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apid.wsgi import faults

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment


def read(environ: WSGIEnvironment, *, flights: int = 0) -> dict[str, Any]:
    """Return the status document.

    Args:
        environ: of the request.
        flights: how many requests in flight are listed for each worker.

    Raises:
        NotFound: the server is not apid.
    """
    status = environ.get("apid.status")
    if status is None:
        raise faults.NotFound("This server tells nothing about itself: it gives no apid.status.")
    document: dict[str, Any] = status(flights=flights)
    return document
