"""Schemas for bodies and query strings: JSON Schema 2020-12, compiled once, as decorators.

The schemas are read again by `openapi`. What a body is made of before it is a document is `serializers`' matter.
"""

from __future__ import annotations

import itertools
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import jsonschema

from apid.wsgi import controller, faults
from apid.wsgi.microversions import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apid.wsgi.controller import Method

_FORMATS = jsonschema.FormatChecker(("date", "email", "ipv4", "ipv6", "regex", "uuid"))


@_FORMATS.checks("date-time", ValueError)  # type: ignore[untyped-decorator]  # jsonschema has no types
def _is_date_time(text: object) -> bool:
    """RFC 3339, 5.6: date, time and zone; jsonschema knows it only with a further package."""
    return not isinstance(text, str) or ("T" in text.upper() and datetime.fromisoformat(text).tzinfo is not None)


_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_MOST_ERRORS = 32
"""Errors among which the best one is told: a body can hold a hundred thousand, and each costs."""
_LONGEST = 200
"""Characters of a refused value that a message repeats."""


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
        self._validator = jsonschema.Draft202012Validator(self.document, format_checker=_FORMATS)

    def check(self, document: object, what: str) -> None:
        """Hold a document against the schema.

        Args:
            document: the body, or the query as a dictionary.
            what: how the message calls it.

        Raises:
            BadRequest: it does not fit; the message names the place and the rule.
        """
        try:
            found = jsonschema.exceptions.best_match(
                itertools.islice(self._validator.iter_errors(document), _MOST_ERRORS)
            )
        except RecursionError:
            raise faults.BadRequest(f"Invalid {what}: nested too deep.", error="validation.failed") from None
        if found is not None:
            place = found.json_path.removeprefix("$").removeprefix(".")
            text = found.message if len(found.message) <= _LONGEST else found.message[: _LONGEST - 1] + "…"
            raise faults.BadRequest(
                f"Invalid {what}{f' at {place}' if place else ''}: {text}", error="validation.failed"
            )


class QuerySchema(Schema):
    """A schema of a query string: an object whose properties are the parameters.

    A parameter whose schema is an array keeps all its values; of any other one the last value counts, as in nova. Integers,
    numbers and booleans are read from their text.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(document)
        defaults = any("default" in schema for schema in document.get("properties", {}).values())
        self._empty_fits = not defaults and self._validator.is_valid({})

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
    if kind == "integer" and _INTEGER.fullmatch(text):
        return int(text)
    if kind == "number":
        try:
            return float(text)
        except ValueError:
            return text
    if kind == "boolean":
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower(), text)
    return text


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
