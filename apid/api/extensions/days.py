"""The extension that comes with the default API: how long an animal has been known. An example of going around a controller."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from apid.wsgi.controller import extends
from apid.wsgi.extensions import ControllerExtension, ExtensionDescriptor

if TYPE_CHECKING:
    from apid.wsgi.request import Request
    from apid.wsgi.response import ResponseObject


class _Days:
    """Goes around the animals."""

    @extends
    def show(self, _req: Request, resp_obj: ResponseObject, **_: Any) -> None:
        """Add the number of days."""
        animal = resp_obj.obj["animal"]
        known = datetime.now(UTC) - datetime.fromisoformat(animal["created_at"])
        animal["apid-days:days"] = known.days


class Days(ExtensionDescriptor):
    """Shows for how many whole days an animal has been known."""

    name = "Days"
    alias = "apid-days"
    namespace = "urn:apid:extensions:days"
    updated = "2026-11-20T00:00:00Z"

    def get_controller_extensions(self) -> Sequence[ControllerExtension]:
        """Around /animals."""
        return [ControllerExtension(self, "animals", _Days())]
