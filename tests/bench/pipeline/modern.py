"""The API written with apid.wsgi; its pipeline is modern.ini."""

from __future__ import annotations

from typing import ClassVar

from apid.wsgi import faults
from apid.wsgi.router import Router
from tests.bench.pipeline import animals


class Animals:
    """The controller."""

    def index(self, req):
        """List."""
        return animals.index()

    def show(self, req, id):
        """Show one."""
        found = animals.show(id)
        if found is None:
            raise faults.NotFound
        return found


class API(Router):
    """The routes."""

    ROUTES: ClassVar = {
        "/{project_id}/animals": {"GET": (Animals, "index")},
        "/{project_id}/animals/{id}": {"GET": (Animals, "show")},
    }
