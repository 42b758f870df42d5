"""The id of a request: where it is found, and what one looks like.

The daemon, or the request_id filter, makes one id a request and accepts none from outside as its own; this module only finds it.
Setting the header of the answer is the filter's work.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

HEADER = "X-Openstack-Request-Id"
_VALID = re.compile(r"req-[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.ASCII)


def new() -> str:
    """A fresh id, `req-` and a random UUID, as every OpenStack service writes it."""
    return f"req-{uuid.uuid4()}"


def valid(text: str) -> bool:
    """Tell whether a text is a request id and nothing else (a header from outside may be anything)."""
    return _VALID.fullmatch(text) is not None


def of(environ: WSGIEnvironment) -> str:
    """The id of this request: the filter's, the daemon's, or a new one that stays with the request."""
    found = environ.get("openstack.request_id") or environ.get("apid.request_id")
    if not found:
        found = environ["apid.request_id"] = new()
    return str(found)
