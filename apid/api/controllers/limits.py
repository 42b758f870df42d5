"""GET /limits: the rate limits of the one who asks, and how many animals the project may have and has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apid.api.controllers.animals import NOBODYS
from apid.api.db import animals
from apid.api.schemas.animals import NOTHING
from apid.wsgi.ratelimit.limitsapp import rate
from apid.wsgi.validation import query_schema

if TYPE_CHECKING:
    from apid.api.db.connection import Database
    from apid.wsgi.request import Request


class LimitsController:
    """Limits.

    Args:
        database: where the animals are counted. quota: how many a project may have; -1 is unlimited.
    """

    def __init__(self, database: Database, quota: int) -> None:
        self._database = database
        self._quota = quota

    @query_schema(NOTHING)
    def index(self, req: Request, **_: Any) -> dict[str, Any]:
        """Show the limits."""
        project = req.context.project_id or NOBODYS
        used = self._database.read(req.environ, lambda connection: animals.count(connection, project))
        absolute = {"maxTotalAnimals": self._quota, "totalAnimalsUsed": used}
        return {"limits": {"rate": rate(req.environ.get("nova.limits") or ()), "absolute": absolute}}
