"""The routes of version 1 of the default API, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apid.api.controllers.animals import AnimalsController
from apid.api.controllers.limits import LimitsController
from apid.api.controllers.version import VersionController

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apid.api.db.connection import Database
    from apid.wsgi.router import Target


def routes(database: Database, quota: int) -> Mapping[str, Mapping[str, Target]]:
    """Path to method to (controller, action); everything but the version document also below /{project_id}."""
    animals, limits = AnimalsController(database, quota), LimitsController(database, quota)
    things: dict[str, dict[str, Target]] = {
        "/limits": {"GET": (limits, "index")},
        "/animals": {"GET": (animals, "index"), "POST": (animals, "create")},
        "/animals/detail": {"GET": (animals, "detail")},
        "/animals/{id}": {
            "GET": (animals, "show"),
            "PUT": (animals, "update"),
            "PATCH": (animals, "patch"),
            "DELETE": (animals, "delete"),
        },
        "/animals/{id}/action": {"POST": (animals, "action")},
    }
    table: dict[str, dict[str, Target]] = {"/": {"GET": (VersionController, "show")}}
    return {**table, **things, **{"/{project_id}" + path: methods for path, methods in things.items()}}
