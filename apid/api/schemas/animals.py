"""Bodies and queries of /animals, as JSON Schema 2020-12."""

from __future__ import annotations

from typing import Any

from apid.api.db.animals import SORT_KEYS

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$(?!\n)"
"""No control characters: PostgreSQL refuses NUL, terminals suffer from the others. `$` alone matches before a last newline."""

_NAME = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$(?!\n)",
}
_SPECIES = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": _PRINTABLE}
_TAGS = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": 60, "pattern": _PRINTABLE},
    "maxItems": 50,
    "uniqueItems": True,
}


def _body(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    animal = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {
        "type": "object",
        "properties": {"animal": animal},
        "required": ["animal"],
        "additionalProperties": False,
    }


CREATE = _body({"name": _NAME, "species": _SPECIES}, ["name", "species"])
CREATE_1_1 = _body({"name": _NAME, "species": _SPECIES, "tags": _TAGS}, ["name", "species"])
UPDATE, UPDATE_1_1 = CREATE, CREATE_1_1
PATCH = {
    "type": "object",
    "properties": {"name": _NAME, "species": _SPECIES, "tags": {"anyOf": [_TAGS, {"type": "null"}]}},
    "minProperties": 1,
    "additionalProperties": False,
}
"""A merge patch (RFC 7396): null removes, which only tags can be."""

NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
"""Of a query string where none is known."""

LIST = {
    "type": "object",
    "properties": {
        "limit": {"type": "integer", "minimum": 0},
        "offset": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
        "marker": {"type": "string"},
        "sort_key": {"type": "array", "items": {"enum": list(SORT_KEYS)}, "maxItems": 6, "uniqueItems": True},
        "sort_dir": {"type": "array", "items": {"enum": ["asc", "desc"]}, "maxItems": 6},
        "all_projects": {"type": "boolean"},
        **{name: {"type": "string", "maxLength": 255, "pattern": _PRINTABLE} for name in ("name", "species", "status")},
    },
    "additionalProperties": False,
}
ADOPT = {
    "type": "object",
    "properties": {
        "adopt": {
            "type": "object",
            "properties": {"by": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": _PRINTABLE}},
            "required": ["by"],
            "additionalProperties": False,
        }
    },
    "required": ["adopt"],
    "additionalProperties": False,
}
RELEASE = {
    "type": "object",
    "properties": {"release": {"type": ["object", "null"], "maxProperties": 0}},
    "required": ["release"],
    "additionalProperties": False,
}
