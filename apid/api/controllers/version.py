"""GET /v1/: the document of this version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apid.api.schemas.animals import NOTHING
from apid.api.versions import V1
from apid.wsgi import links
from apid.wsgi.response import ResponseObject
from apid.wsgi.validation import query_schema
from apid.wsgi.versions import NO_CACHE

if TYPE_CHECKING:
    from apid.wsgi.request import Request


class VersionController:
    """The version document."""

    @query_schema(NOTHING)
    def show(self, req: Request) -> Any:
        """The document of version 1."""
        base = links.application_url(req.environ).removesuffix(V1.mount)
        return ResponseObject(V1.document(base), headers=dict([NO_CACHE]))
