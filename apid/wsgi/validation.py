"""Schemas for bodies and query strings: JSON Schema 2020-12, compiled once, as decorators.

The schemas are read again by `openapi`. What a body is made of before it is a document is `serializers`' matter.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING, Any

import jsonschema

from apid.wsgi import controller, faults
from apid.wsgi.microversions import Window
from apid.wsgi.serializers import MAX_INTEGER
from apid.wsgi.validator import MOST_ERRORS, Allowance, TooMuchWorkError, Validator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apid.wsgi.controller import Method

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_LONGEST = 200
"""Characters of a message, and of a place in the document, that are told: either may hold what the client sent."""


class Schema:
    """A JSON schema, checked and compiled.

    Args:
        document: the schema.

    Raises:
        ValueError: it is no schema; found when the controller's module is imported.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = dict(document)
        try:
            jsonschema.Draft202012Validator.check_schema(self.document)
        except jsonschema.SchemaError as exc:
            raise ValueError(f"not a JSON schema: {exc.message} (at {exc.json_path})") from exc
        self._validator = Validator({name: value for name, value in self.document.items() if name != "$schema"})

    def check(self, document: object, what: str) -> None:
        """Hold a document against the schema.

        Args:
            document: the body, or the query as a dictionary.
            what: how the message calls it.

        Raises:
            BadRequest: it does not fit; the message names the place and the rule. Or the schema, which is recursive or full of
                alternatives, asks for more work than a document of this size is worth.
        """
        try:
            errors = self._validator.evolve(format_checker=Allowance(document)).iter_errors(document)
            found = jsonschema.exceptions.best_match(itertools.islice(errors, MOST_ERRORS))
        except RecursionError:
            raise faults.BadRequest(f"Invalid {what}: nested too deep.", error="validation.failed") from None
        except TooMuchWorkError:
            raise faults.BadRequest(f"Invalid {what}: too much work to check.", error="validation.failed") from None
        if found is not None:
            place = _cut(found.json_path.removeprefix("$").removeprefix("."))
            raise faults.BadRequest(
                f"Invalid {what}{f' at {place}' if place else ''}: {_cut(found.message)}", error="validation.failed"
            )


class QuerySchema(Schema):
    """A schema of a query string: an object whose properties are the parameters.

    A parameter whose schema is an array keeps all its values; of any other one the last value counts, as in nova. Integers,
    numbers and booleans are read from their text.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(document)
        defaults = any("default" in schema for schema in document.get("properties", {}).values())
        self._empty_fits = not defaults and self._validator.evolve(format_checker=Allowance({})).is_valid({})

    def read(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """Turn the parameters into what the schema says and check them.

        Raises:
            BadRequest: a parameter does not fit, or is unknown where `additionalProperties` is false.
        """
        if not query and self._empty_fits:  # as most are: the schema need not be run
            return {}
        properties = self.document.get("properties", {})
        document: dict[str, Any] = {}
        for name, values in query.items():
            schema = properties.get(name, {})
            if schema.get("type") == "array":
                document[name] = [_converted(value, schema.get("items", {})) for value in values]
            else:
                document[name] = _converted(values[-1], schema)
        self.check(document, "query string")
        for name, schema in properties.items():
            if "default" in schema:
                document.setdefault(name, schema["default"])
        return document


def _converted(text: str, schema: Any) -> object:
    """A parameter's value in the type of its schema; the text itself where it does not fit, for the schema to refuse."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind == "integer" and _INTEGER.fullmatch(text) and -MAX_INTEGER <= int(text) < MAX_INTEGER:
        return int(text)
    if kind == "number" and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    if kind == "boolean":
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower(), text)
    return text


def _cut(text: str) -> str:
    """The beginning and the end of a text: the value stands at the beginning of jsonschema's messages, the rule at the end."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[-half:]}"


def body_schema(
    document: Mapping[str, Any], lowest: str | None = None, highest: str | None = None
) -> Callable[[Method], Method]:
    """The method's body fits this schema, in the microversions from `lowest` to `highest`. It arrives as `body`."""
    entry = (Window.parse(lowest, highest), Schema(document))
    return lambda method: controller.declare(method, bodies=(*controller.declared(method).bodies, entry))


def query_schema(
    document: Mapping[str, Any], lowest: str | None = None, highest: str | None = None
) -> Callable[[Method], Method]:
    """The method's query string fits this schema, in the microversions from `lowest` to `highest`. It arrives as `query`."""
    entry = (Window.parse(lowest, highest), QuerySchema(document))
    return lambda method: controller.declare(method, queries=(*controller.declared(method).queries, entry))
