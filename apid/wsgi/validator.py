"""The JSON Schema validator: jsonschema's for draft 2020-12, with work that is bounded by the size of the document.

jsonschema compares all pairs under uniqueItems, looks for what is evaluated in lists, collects every error below anyOf and oneOf,
and follows a recursive schema into each alternative again: each of them lets a small document hold a worker for minutes. Here
uniqueness is linear, errors are counted, a keyword that reads a value waits for the one that limits its length, and each
validation has an allowance of work in proportion to its document. What patterns cost is their author's matter: `re` backtracks.

Theory of operation. Every step of jsonschema into a pair of value and schema goes through `descend`, which is replaced here. The
allowance of one validation travels as the validator's format checker, the one field that is handed down unchanged.
"""

from __future__ import annotations

import itertools
import re
import reprlib
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import jsonschema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_ERRORS = 32
"""Errors of one schema among which the best one is told: a document can hold a hundred thousand, and each costs."""
READINGS = 16
"""How often a validation may read the whole document, on average over its values."""
_LARGEST = 1_000_000
"""Units of work beyond which a document counts as no larger, so that one that holds itself has an end."""
_FREE = 10_000
"""Units of work that every validation has; one is about 3 µs."""
_TURN = 1000
"""Units of work after which others get their turn."""
_LONGEST_REGEX = 1000
"""Characters of a text of format regex: `re` keeps 512 compiled patterns, and what they hold is the client's choice."""

Keyword = Any
"""A function of validator, the keyword's value, the document's value and the schema, to errors; jsonschema has no type for it."""

_STOCK: dict[str, Keyword] = jsonschema.Draft202012Validator.VALIDATORS
_FORMATS = jsonschema.FormatChecker(("date", "email", "ipv4", "ipv6", "uuid"))
_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 100


@_FORMATS.checks("date-time", ValueError)  # type: ignore[untyped-decorator]  # jsonschema has no types
def _is_date_time(text: object) -> bool:
    """RFC 3339, 5.6: date, time and zone; jsonschema knows it only with a further package."""
    return not isinstance(text, str) or ("T" in text.upper() and datetime.fromisoformat(text).tzinfo is not None)


# OverflowError is what a{9999999999999999999} raises; a warning is an exception where the operator wants it so.
@_FORMATS.checks("regex", (re.error, OverflowError, RecursionError, Warning))  # type: ignore[untyped-decorator]  # as above
def _is_regex(text: object) -> bool:
    return not isinstance(text, str) or (len(text) <= _LONGEST_REGEX and re.compile(text) is not None)


class TooMuchWorkError(Exception):
    """A schema that multiplies its document has used up the allowance."""


class Allowance(jsonschema.FormatChecker):  # type: ignore[misc]  # jsonschema has no types
    """The work that one validation may still do.

    Args:
        document: its size decides.
    """

    def __init__(self, document: object) -> None:
        self.checkers = _FORMATS.checkers
        self._left = _FREE + READINGS * _size(document)
        self._turn = self._left - _TURN

    def spend(self, units: int) -> None:
        """Note work.

        Raises:
            TooMuchWorkError: nothing is left.
        """
        self._left -= units
        if self._left < self._turn:
            if self._left < 0:
                raise TooMuchWorkError
            self._turn = self._left - _TURN
            time.sleep(0)  # where sleep is green, other requests run meanwhile, and the worker is seen to be alive


def _weight(value: object) -> int:
    """The work of one look at a value, without what it contains."""
    return 1 + (len(value) >> 3) if isinstance(value, (str, list, dict)) else 1


def _size(document: object) -> int:
    """The work of looking at every value of a document once, measured without recursion."""
    total, level = 0, [document]
    while level and total < _LARGEST:
        total += len(level)
        below: list[object] = []
        for value in level:
            if isinstance(value, (str, list, dict)):
                total += len(value) >> 3
                if isinstance(value, list):
                    below += value
                elif isinstance(value, dict):
                    below += value.values()
        level = below
    return min(total, _LARGEST)


def identity(value: object) -> str:
    """A text that two JSON values share exactly if they are equal: 1 and 1.0 are, true and 1 are not, keys have no order.

    A text, because its hash is keyed (PYTHONHASHSEED): that of an int is not, and a set of ints congruent modulo 2**61-1 is as
    slow as a list.
    """
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts)


def _write(value: object, parts: list[str]) -> None:
    if isinstance(value, str):
        parts += (str(len(value)), ":", value)
    elif value is None or isinstance(value, bool):
        parts.append(str(value))
    elif isinstance(value, (int, float)):
        parts += (_number(value), ";")
    elif isinstance(value, (list, tuple)):
        parts.append("[")
        for item in value:
            _write(item, parts)
        parts.append("]")
    elif isinstance(value, dict):
        parts.append("{")
        for key in sorted(value, key=repr):
            _write(key, parts)
            _write(value[key], parts)
        parts.append("}")
    else:  # no JSON: what another deserializer makes
        parts.append(f"<{type(value).__qualname__} {value!r}>")


def _number(value: float) -> str:
    try:
        same = float(value)
    except OverflowError:
        return hex(int(value))
    # hex, for it is linear where decimal digits are not; adding 0.0 makes 0 of -0
    return hex(value) if isinstance(value, int) and same != value else repr(same + 0.0)


def _unique_items(validator: Any, wanted: object, instance: object, _schema: object) -> Iterator[Any]:
    if not wanted or not isinstance(instance, list) or len(instance) < 2:
        return
    seen: set[str] = set()
    for item in instance:
        text = identity(item)
        validator.format_checker.spend(1 + (len(text) >> 5))
        if text in seen:
            yield jsonschema.ValidationError(f"{_shown.repr(instance)} has non-unique elements")
            return
        seen.add(text)


def _alternatives(validator: Any, schemas: list[Any], instance: object, most: int) -> tuple[list[Any], list[Any]]:
    """Which of some schemas a value fits, as soon as `most` do, and the errors of the others."""
    fitting: list[Any] = []
    errors: list[Any] = []
    for index, schema in enumerate(schemas):
        found = list(itertools.islice(validator.descend(instance, schema, schema_path=index), MOST_ERRORS))
        errors += found
        if not found:
            fitting.append(schema)
            if len(fitting) == most:
                break
    return fitting, errors


def _any_of(validator: Any, schemas: list[Any], instance: object, _schema: object) -> Iterator[Any]:
    fitting, errors = _alternatives(validator, schemas, instance, 1)
    if not fitting:
        text = f"{_shown.repr(instance)} is not valid under any of the given schemas"
        yield jsonschema.ValidationError(text, context=errors)


def _one_of(validator: Any, schemas: list[Any], instance: object, _schema: object) -> Iterator[Any]:
    fitting, errors = _alternatives(validator, schemas, instance, 2)
    if not fitting:
        text = f"{_shown.repr(instance)} is not valid under any of the given schemas"
        yield jsonschema.ValidationError(text, context=errors)
    elif len(fitting) > 1:
        reprs = " and ".join(map(repr, fitting))
        yield jsonschema.ValidationError(f"{_shown.repr(instance)} is valid under more than one schema: {reprs}")


def _unevaluated(find: str, *, of_items: bool) -> Keyword:
    """Make unevaluatedItems or unevaluatedProperties: as jsonschema, with a set where it searches a list for each member."""
    from jsonschema import _utils  # its walk over the annotations has no public name

    evaluated: Callable[[Any, object, object], Iterable[object]] = getattr(_utils, find)

    def check(validator: Any, wanted: object, instance: Any, schema: object) -> Iterator[Any]:
        if not isinstance(instance, list if of_items else dict):
            return
        known = set(evaluated(validator, instance, schema))
        left = [key for key in (range(len(instance)) if of_items else instance) if key not in known]
        bad = [key for key in left if next(validator.descend(instance[key], wanted, path=key), None) is not None]
        if bad:
            names = ", ".join(map(repr, bad[:MOST_ERRORS]))
            yield jsonschema.ValidationError(f"Unevaluated {'items' if of_items else 'properties'}: {names}")

    return check


def _within(limit: str, check: Keyword) -> Keyword:
    """A keyword that says nothing about a value longer than `limit` allows: that is an error already, and reading it is work."""

    def limited(validator: Any, wanted: object, instance: object, schema: dict[str, Any]) -> object:
        most = schema.get(limit)
        if most is not None and isinstance(instance, (str, list, dict)) and len(instance) > most:
            return None
        return check(validator, wanted, instance, schema)

    return limited


def _keywords() -> dict[str, Keyword]:
    own = {
        "uniqueItems": _unique_items,
        "anyOf": _any_of,
        "oneOf": _one_of,
        "unevaluatedItems": _unevaluated("find_evaluated_item_indexes_by_schema", of_items=True),
        "unevaluatedProperties": _unevaluated("find_evaluated_property_keys_by_schema", of_items=False),
    }
    for limit, limited in (
        ("maxLength", ("pattern", "format")),
        ("maxItems", ("uniqueItems", "items", "contains", "unevaluatedItems")),
        ("maxProperties", ("propertyNames", "patternProperties", "additionalProperties", "unevaluatedProperties")),
    ):
        own.update({name: _within(limit, own.get(name, _STOCK[name])) for name in limited})
    return own


Validator: Any = jsonschema.validators.extend(jsonschema.Draft202012Validator, _keywords())
"""The class; its instances need an `Allowance` as their format_checker."""

_descend = Validator.descend
_evolve = Validator.evolve


def _descend_within_allowance(
    validator: Any, instance: object, schema: object, *args: Any, **kwargs: Any
) -> Iterator[Any]:
    validator.format_checker.spend(_weight(instance))
    errors: Iterator[Any] = _descend(validator, instance, schema, *args, **kwargs)
    return errors


def _evolve_to_the_same_class(validator: Any, **changes: Any) -> Any:
    schema = changes.get("schema")
    if isinstance(schema, dict) and "$schema" in schema:  # jsonschema would take the class that it has for that name
        changes["schema"] = {name: value for name, value in schema.items() if name != "$schema"}
    return _evolve(validator, **changes)


Validator.descend = _descend_within_allowance
Validator.evolve = _evolve_to_the_same_class
