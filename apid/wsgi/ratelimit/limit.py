"""A rate limit, and nova's way of writing it: `(VERB, uri, regex, value, UNIT); (...)`.

A limit is a leaky bucket that holds one unit of time: each hit pours in unit/value, and one second leaks out per second. So
`value` hits pass at once, and then one whenever room for it has leaked. Where the level is kept is not decided here.

Read differently from nova, whose reading had these bugs: a regex may contain commas, quotes around a field are not part of it,
a day has 86400 seconds, and the regex is matched against the path (and `?query`), not against `http://host/...`, so that
`^/servers` matches. Behind a urlmap the path is tried without the mount point and with it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from apid.wsgi.kinds import Kind

UNITS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400}
"""Seconds of a unit."""

_NS = 10**9
_ENTRY = re.compile(
    r"""\s*\(\s*(?P<verb>"[^"]*"|'[^']*'|[^,()]*?)\s*,
        \s*(?P<uri>"[^"]*"|'[^']*'|[^,]*?)\s*,
        \s*(?P<regex>.*?)\s*,
        \s*(?P<value>[^,()]*?)\s*,
        \s*(?P<unit>[^,()]*?)\s*\)[ \t]*(?:;|\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """One limit.

    Attributes:
        verb: the method, or `*` for every one; GET counts HEAD too.
        uri: how the limit is shown to people.
        regex: as written.
        value: hits per unit.
        unit: one of UNITS.
        match: the compiled regex's `match`.
        capacity: of the bucket, in nanoseconds.
        cost: of one hit, in nanoseconds; rounded down, so that `value` hits always fit (and one more does not: see `parse`).
        identity: what tells this limit from all others, for the keys of counters.
    """

    verb: str
    uri: str
    regex: str
    value: int
    unit: str
    match: Callable[[str], object] = dataclasses.field(repr=False, compare=False)
    capacity: int = dataclasses.field(repr=False, compare=False)
    cost: int = dataclasses.field(repr=False, compare=False)
    identity: bytes = dataclasses.field(repr=False, compare=False)

    @classmethod
    def make(cls, verb: str, uri: str, regex: str, value: int, unit: str) -> Limit:
        """Make one; raises ValueError, whose text names the field, for what cannot be."""
        verb, unit = verb.upper(), unit.upper()
        if verb != "*" and not re.fullmatch(r"[A-Z]+", verb):
            raise ValueError(f"{verb!r} is no HTTP method; the verb must be one, or *")
        if unit not in UNITS:
            raise ValueError(f"the unit {unit!r} must be one of {', '.join(UNITS)}")
        capacity = UNITS[unit] * _NS
        if value < 1 or value * (value + 1) >= capacity:  # above, the rounding of `cost` would let one more through
            raise ValueError(f"the value {value} must be at least 1 and at most {_largest(capacity)} per {unit}")
        try:
            match = re.compile(regex).match
        except re.error as error:
            raise ValueError(f"the regex {regex!r} is wrong: {error}") from None
        identity = "\0".join((verb, uri, regex, str(value), unit)).encode()
        return cls(verb, uri, regex, value, unit, match, capacity, capacity // value, identity)

    def matches(self, path: str, full_path: str) -> bool:
        """Tell whether a request is one of this limit's; the verb has been looked at."""
        return self.match(path) is not None or (full_path != path and self.match(full_path) is not None)

    def remaining(self, level: int) -> int:
        """How many hits pass at once when the bucket stands at `level` nanoseconds."""
        return max(0, (self.capacity - level) * self.value // self.capacity)


def _largest(capacity: int) -> int:
    value = int(capacity**0.5) + 1
    while value * (value + 1) >= capacity:
        value -= 1
    return value


def _integer(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError(f"the value {text!r} must be an integer")
    return int(text)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def parse(text: str) -> tuple[Limit, ...]:
    """Read an ini file's `limits`; entries are separated by semicolons or line ends.

    Raises:
        ValueError: names the entry and what is wrong with it.
    """
    limits: list[Limit] = []
    at = 0
    text = text.strip()
    while at < len(text):
        entry = _ENTRY.match(text, at)
        if not entry:
            if not text[at:].strip(" \t\n;"):
                break
            raise ValueError(f"entry {len(limits) + 1} is not (VERB, uri, regex, value, UNIT): {text[at:].strip()}")
        try:
            verb, uri, regex = (_unquoted(entry[name]) for name in ("verb", "uri", "regex"))
            limit = Limit.make(verb, uri, regex, _integer(entry["value"]), entry["unit"])
        except ValueError as error:
            raise ValueError(f"entry {len(limits) + 1} {entry[0].strip()}: {error}") from None
        if limit in limits:
            raise ValueError(f"entry {len(limits) + 1} {entry[0].strip()}: is there already")
        limits.append(limit)
        at = entry.end()
    return tuple(limits)


kind: Kind[tuple[Limit, ...]] = Kind("a list of (VERB, uri, regex, value, UNIT) separated by semicolons", parse)

DEFAULT = (
    Limit.make("POST", "*", ".*", 120, "MINUTE"),
    Limit.make("POST", "*/servers", "^/servers", 120, "MINUTE"),
    Limit.make("PUT", "*", ".*", 120, "MINUTE"),
    Limit.make("GET", "*changes-since*", ".*changes-since.*", 120, "MINUTE"),
    Limit.make("DELETE", "*", ".*", 120, "MINUTE"),
    Limit.make("GET", "*/os-fping", "^/os-fping", 12, "MINUTE"),
)
"""nova's of 2013, for a section without `limits`."""


class LimitSet:
    """The limits that hold for somebody, found by method."""

    __slots__ = ("_by_verb", "_every", "limits")

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self.limits = limits
        verbs = {limit.verb for limit in limits} | ({"HEAD"} if any(limit.verb == "GET" for limit in limits) else set())
        self._by_verb = {
            verb: tuple(limit for limit in limits if limit.verb in ("*", "GET" if verb == "HEAD" else verb, verb))
            for verb in verbs
        }
        self._every = self._by_verb.get("*", ())

    def of(self, verb: str) -> tuple[Limit, ...]:
        """The limits of a method; usually none, which is the fast way through."""
        return self._by_verb.get(verb, self._every)
