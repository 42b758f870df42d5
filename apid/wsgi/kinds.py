"""The kinds of value that an option of a paste factory can have: a string of an ini file in, a typed value out.

A kind says what an operator may write, so that the error can tell. Declaring and reading options is factory.py.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import math
import re
from collections.abc import Callable
from typing import Generic, TypeVar

from apid import hosts

T = TypeVar("T")
E = TypeVar("E", bound=enum.Enum)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclasses.dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How a string becomes a value.

    Attributes:
        allowed: what an operator may write, to stand after "must be".
        convert: raises ValueError for everything else; a text in it is told to the operator.
    """

    allowed: str
    convert: Callable[[str], T]


_TRUE = frozenset({"1", "true", "yes", "on", "t", "y"})
_FALSE = frozenset({"0", "false", "no", "off", "f", "n"})
_DURATION = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def _boolean(value: str) -> bool:
    word = value.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError


boolean: Kind[bool] = Kind("one of true, yes, on, 1 or false, no, off, 0", _boolean)
text: Kind[str] = Kind("a text", str)


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("it is empty")
    return value


word: Kind[str] = Kind("a text, not empty", _not_empty)


def _range(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f" from {minimum} to {maximum}"
    if minimum is not None:
        return f" of at least {minimum}"
    return "" if maximum is None else f" of at most {maximum}"


def _bounded(value: float, minimum: float | None, maximum: float | None) -> None:
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        raise ValueError


def integer(*, minimum: int | None = None, maximum: int | None = None) -> Kind[int]:
    """A decimal integer within bounds, both inclusive."""

    def convert(value: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", value):  # int() also takes 1_000, blanks and other alphabets' digits
            raise ValueError
        number = int(value)
        _bounded(number, minimum, maximum)
        return number

    return Kind("an integer" + _range(minimum, maximum), convert)


def _finite(value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def number(*, minimum: float | None = None, maximum: float | None = None) -> Kind[float]:
    """A finite decimal number within bounds, both inclusive."""

    def convert(value: str) -> float:
        try:
            found = _finite(value)
        except ValueError:
            raise ValueError from None
        _bounded(found, minimum, maximum)
        return found

    return Kind("a number" + _range(minimum, maximum), convert)


def seconds(*, minimum: float | None = 0.0, maximum: float | None = None) -> Kind[float]:
    """A time in seconds; `ms`, `s`, `m`, `h` or `d` may follow the number."""

    def convert(value: str) -> float:
        parts = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)\s*(ms|s|m|h|d|)", value)
        if not parts:
            raise ValueError
        found = float(parts[1]) * _DURATION[parts[2]]
        _bounded(found, minimum, maximum)
        return found

    return Kind(f"a time in seconds{_range(minimum, maximum)}; ms, s, m, h or d may follow", convert)


def size(*, minimum: int = 0, maximum: int | None = None) -> Kind[int]:
    """A number of bytes; `K`, `M`, `G` or `T` (powers of 1024) may follow, with or without `B` or `iB`."""

    def convert(value: str) -> int:
        parts = re.fullmatch(r"([0-9]{1,18})\s*([KMGT]?)(?:i?B)?", value, re.IGNORECASE)
        if not parts:
            raise ValueError
        found = int(parts[1]) * _SIZES[parts[2].upper()]
        _bounded(found, minimum, maximum)
        return found

    return Kind(f"a size in bytes{_range(minimum, maximum)}; K, M, G or T may follow", convert)


def listed(kind: Kind[T], *, separator: str = ",") -> Kind[tuple[T, ...]]:
    """A list of another kind, separated by commas or line ends; empty entries are dropped."""

    def convert(value: str) -> tuple[T, ...]:
        parts = (part.strip() for part in value.replace("\n", separator).split(separator))
        return tuple(_entry(kind, part) for part in parts if part)

    return Kind(f"a list, separated by '{separator}', each {kind.allowed}", convert)


def _entry(kind: Kind[T], part: str) -> T:
    try:
        return kind.convert(part)
    except ValueError as error:
        raise ValueError(str(error) or f"{part} is not") from None


def _network(value: str) -> Network:
    try:
        return hosts.network_of(value, strict=False)
    except ValueError:
        raise ValueError(f"{value} is not") from None


network: Kind[Network] = Kind("an address or network, IPv4 or IPv6 (10.0.0.0/8, ::1)", _network)
networks: Kind[tuple[Network, ...]] = listed(network)


def choice(*names: str) -> Kind[str]:
    """One of some words, in any case."""

    def convert(value: str) -> str:
        found = value.lower()
        if found not in names:
            raise ValueError
        return found

    return Kind(f"one of {', '.join(names)}", convert)


def member(enumeration: type[E]) -> Kind[E]:
    """A member of an Enum by its value, which must be a lower-case text; the case written does not matter."""

    def convert(value: str) -> E:
        try:
            return enumeration(value.lower())
        except ValueError:
            raise ValueError from None

    return Kind(f"one of {', '.join(str(entry.value) for entry in enumeration)}", convert)
