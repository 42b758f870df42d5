"""A small API that holds its plants in a dictionary: for schemathesis."""

from __future__ import annotations

import itertools
from typing import ClassVar

from apid.wsgi import faults
from apid.wsgi.controller import action, response, window
from apid.wsgi.microversions import Microversions
from apid.wsgi.paging import Page
from apid.wsgi.response import ResponseObject
from apid.wsgi.router import Router
from apid.wsgi.validation import body_schema, query_schema

PLANT = {
    "type": "object",
    "properties": {
        "plant": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 40},
                "height": {"type": "integer", "minimum": 0, "maximum": 200},
                "planted": {"type": "string", "format": "date-time"},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
    "required": ["plant"],
    "additionalProperties": False,
}
LISTED = {
    "type": "object",
    "properties": {
        "limit": {"type": "integer", "minimum": 0, "maximum": 1000},
        "tall": {"type": "boolean"},
        "name": {"type": "string", "minLength": 1},
    },
    "additionalProperties": False,
}
_PLANTS: dict[str, dict] = {}
_IDS = itertools.count(1)


class PlantsController:
    """Plants."""

    @query_schema(LISTED)
    def index(self, req, query):
        """List the plants."""
        page = Page.of(req)
        return page.document(req, "plants", page.cut(list(_PLANTS.values()), _id), _id)

    @response(201)
    @body_schema(PLANT)
    def create(self, req, body):
        """Plant one."""
        plant = {"id": str(next(_IDS)), **body["plant"]}
        if len(_PLANTS) < 100:
            _PLANTS[plant["id"]] = plant
        return ResponseObject({"plant": plant}, headers={"Location": f"/v1/plants/{plant['id']}"})

    @window("1.1", "1.1")
    def show(self, req, id):
        """Show one."""
        return {"plant": _found(id)}

    @window("1.2")
    def show(self, req, id):  # noqa: F811  (the other window)
        """Show one, with its links."""
        return {"plant": {**_found(id), "links": []}}

    @response(204)
    def delete(self, req, id):
        """Dig one out."""
        _found(id)
        _PLANTS.pop(id)

    @action("water")
    @response(202)
    @body_schema(
        {
            "type": "object",
            "properties": {
                "water": {
                    "type": "object",
                    "properties": {"litres": {"type": "number", "minimum": 0}},
                    "additionalProperties": False,
                }
            },
            "additionalProperties": False,
        }
    )
    def water(self, req, id, body):
        """Water one."""
        _found(id)
        return {"watered": id}


def _id(plant):
    return plant["id"]


def _found(plant_id):
    if plant_id not in _PLANTS:
        raise faults.NotFound
    return _PLANTS[plant_id]


class Plants(Router):
    """The routes."""

    ROUTES: ClassVar = {
        "/plants": {"GET": (PlantsController, "index"), "POST": (PlantsController, "create")},
        "/plants/{id}": {"GET": (PlantsController, "show"), "DELETE": (PlantsController, "delete")},
        "/plants/{id}/action": {"POST": (PlantsController, "action")},
    }
    microversions = Microversions("plants", "1.1", "1.2")
