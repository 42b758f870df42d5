"""Checks of JSON that another process wrote: exact types within bounds.

A check takes a value as `json.loads` returns it and returns it cleaned; it raises ValueError when the value is none of its kind.
No conversion is tried: `true` is no number, `1.0` is no integer, and a text is never longer than its bound.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from apid.logformats import escape

Check = Callable[[object], Any]


def loads(data: bytes) -> object:
    """Return the value of a JSON text in UTF-8.

    Raises:
        ValueError: it is not JSON (RFC 8259), has a name twice in an object, a number that is none, or too many levels.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def whole(low: int, high: int) -> Check:
    """An integer from `low` to `high`, both included."""

    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"not an integer from {low} to {high}")
        return value

    return check


def number(low: float, high: float) -> Check:
    """A finite integer or float from `low` to `high`, both included."""

    def check(value: object) -> float:
        if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator]  # narrowed by type()
            raise ValueError(f"not a number from {low:g} to {high:g}")
        return value  # type: ignore[return-value]  # as above

    return check


def flag(value: object) -> bool:
    """`true` or `false`."""
    if type(value) is not bool:
        raise ValueError("neither true nor false")
    return value


def text(most: int, *, lines: bool = False, raw: bool = False) -> Check:
    """A text of at most `most` characters.

    It is returned as `clean` makes it, so that it can neither begin a line of a log nor control a terminal.

    Args:
        most: characters.
        lines: newlines are kept.
        raw: nothing is changed, for a text that is compared.
    """

    def check(value: object) -> str:
        if type(value) is not str or len(value) > most:
            raise ValueError(f"not a text of {most} characters at most")
        return value if raw else clean(value, lines=lines)

    return check


def clean(value: str, *, lines: bool = False) -> str:
    r"""Return the text with control characters and lone surrogates as escapes; twice is the same as once.

    >>> clean("a\x1b[2J\ud800\nb")
    'a\\x1b[2J\\ud800\\nb'
    """
    value = value.encode("utf-8", "backslashreplace").decode()
    return "\n".join(map(escape, value.split("\n"))) if lines else escape(value)


def one_of(*words: str) -> Check:
    """One of these texts."""

    def check(value: object) -> str:
        if type(value) is not str or value not in words:
            raise ValueError(f"none of {', '.join(words)}")
        return value

    return check


def items(check: Check, most: int) -> Check:
    """An array of at most `most` elements of a kind."""

    def check_all(value: object) -> list[Any]:
        if type(value) is not list or len(value) > most:
            raise ValueError(f"not an array of {most} elements at most")
        return [check(one) for one in value]

    return check_all


def mapping(key: Check, check: Check, most: int) -> Check:
    """An object of at most `most` members whose names and values are of a kind each."""

    def check_all(value: object) -> dict[Any, Any]:
        if type(value) is not dict or len(value) > most:
            raise ValueError(f"not an object of {most} members at most")
        return {key(name): check(one) for name, one in value.items()}

    return check_all


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with all `required` members, any of the `optional` ones, and no other."""
    known = {**required, **(optional or {})}

    def check_all(value: object) -> dict[str, Any]:
        if type(value) is not dict or not required.keys() <= value.keys() <= known.keys():
            raise ValueError(f"not an object of {', '.join(known) or 'no members'}")
        return {name: _member(name, known[name], one) for name, one in value.items()}

    return check_all


def of(kind: Any) -> Check:
    """The check for values of a type that `json.dumps` has written; it returns values of the type again.

    Dataclasses (`dataclasses.asdict`; a field that is missing has its default, for the writer may be of another version),
    enumerations with texts, list, set (as an array), tuple (with a length), dict (with texts or integers as keys), `X | None`,
    and `Annotated[X, check]`, which is that check.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is typing.Annotated:
        check: Check = arguments[1]
        return check
    if origin in (types.UnionType, typing.Union):  # the latter of `Annotated`, before Python 3.14
        inner = of(arguments[0])  # the other one is None
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        return _tuple([of(each) for each in arguments])
    if origin is dict:
        return mapping(_decimal if arguments[0] is int else of(arguments[0]), of(arguments[1]), _MANY)
    if origin in (list, set):
        all_of = items(of(arguments[0]), _MANY)
        return lambda value: origin(all_of(value))
    if issubclass(kind, enum.Enum):
        word = one_of(*(each.value for each in kind))
        return lambda value: kind(word(value))
    return _dataclass(kind)


_MANY = 2**20
_PLAIN: dict[Any, Check] = {
    int: whole(-(2**64), 2**64),
    float: number(-1e18, 1e18),
    str: text(2**24, raw=True),
    bool: flag,
}


def _dataclass(kind: Any) -> Check:
    hints = typing.get_type_hints(kind, include_extras=True)
    given = {field.name for field in dataclasses.fields(kind) if _has_default(field)}
    checks = {field.name: of(hints[field.name]) for field in dataclasses.fields(kind)}
    required = {name: check for name, check in checks.items() if name not in given}
    check = record(required, {name: checks[name] for name in given})
    return lambda value: kind(**check(value))


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _tuple(checks: Sequence[Check]) -> Check:
    def check_all(value: object) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(checks):
            raise ValueError(f"not an array of {len(checks)} elements")
        return tuple(check(one) for check, one in zip(checks, value, strict=True))

    return check_all


def _decimal(value: object) -> int:
    if type(value) is not str or not value.isascii() or not value.isdecimal() or len(value) > 20:
        raise ValueError("a name is no number")
    return int(value)


def _member(name: str, check: Check, value: object) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a name twice")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
