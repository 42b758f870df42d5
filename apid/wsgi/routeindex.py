"""From a path to a route in flat time, with the answer that Routes' own matcher gives.

Theory of operation. Routes asks every route in turn: longest static prefix first, inside one prefix in the order of connect().
The index keeps that order as a rank and finds the few routes that can match at all by walking a tree of path segments: a
literal segment is a dictionary key, `x{name}` hangs under its literal head, `{name}` under "any". A variable that may hold a
slash (`{path:.*}`, `*path`) ends the walk: its route hangs below the last whole segment and is asked for every longer path.
The candidates are then asked in rank order, by Routes' own regular expression, or without one where the walk has already
proved the match. Routes with function or sub-domain conditions are asked through `Route.match` itself.

Where the answer deliberately differs from Routes': a path that ends in a newline matches nothing (there `$` lets it pass), and a
method condition given as a string means the methods it names (there it is a substring test, and "ET" passes for "GET").
A mapper with `prefix`, `always_scan`, `debug` or its own matching is not indexed: it is asked itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import routes
from routes.route import Route

from apid.wsgi.mapper import APIMapper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import WSGIEnvironment

Variables = dict[str, Any]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The methods that a mapper without an index is asked for to learn what a path allows."""

_SLASHLESS = re.compile(
    r"""(?:
      [A-Za-z0-9_-] | \\[dw.-]                                             # plain characters, classes without a slash
    | \[ (?: [A-Za-z0-9_.] | a-z | A-Z | a-f | A-F | 0-9 | \\[dw.-] )+ -? \]   # a class that names what it takes
    | \[\^ [^\]\[\\-]* / [^\]\[\\-]* \]                                    # a class that excludes the slash
    | [()|*+?] | \(\?: | \{\d*,?\d*\}
    )*""",
    re.VERBOSE,
)
"""Requirements that are seen at a glance never to match a slash; every other one is treated as if it could."""


def _methods(route: Any) -> frozenset[str] | None:
    """The methods of a route's condition; None where any will do."""
    wanted = (route.conditions or {}).get("method")
    if wanted is None:
        return None
    if isinstance(wanted, str):
        wanted = re.findall(r"[A-Za-z]+", wanted)
    return frozenset(wanted)


class _Entry:
    """One route as the index keeps it."""

    __slots__ = ("defaults", "fill", "match", "methods", "places", "rank", "route", "slow", "static_prefix")

    def __init__(self, rank: tuple[int, int], route: Any, static_prefix: str) -> None:
        self.rank = rank
        self.route = route
        self.methods = _methods(route)
        self.static_prefix = static_prefix
        conditions = route.conditions or {}
        self.slow = bool(route.minimization or conditions.get("function") or "sub_domain" in conditions)
        self.places: tuple[tuple[str, int], ...] | None = None
        self.match = route.regmatch.match
        grouped = route.regmatch.groupindex
        self.defaults = {key: value for key, value in route.defaults.items() if key not in grouped}
        self.fill = {key: route.defaults[key] for key in grouped if route.defaults.get(key)}

    def variables(
        self, path: str, segments: list[str], environ: WSGIEnvironment, domain: tuple[Any, ...]
    ) -> Variables | None:
        """What the route takes from a path, or None. The method is not looked at, except by a condition of the author's own."""
        if self.places is not None:
            found = self.defaults.copy()
            for name, place in self.places:
                found[name] = segments[place]
                if not segments[place]:
                    return None
            return found
        if self.slow or domain[0]:
            if not path.startswith(self.static_prefix):
                return None  # Routes looks for the route under its static prefix only
            asked = self.route.match(path, environ, *domain)
            return asked if isinstance(asked, dict) else None
        match = self.match(path)
        if match is None:
            return None
        taken: Variables = match.groupdict()
        for key, value in self.fill.items():
            if not taken[key]:
                taken[key] = value
        taken.update(self.defaults)
        return taken


class _Node:
    """The routes and the further segments at one point of the tree."""

    __slots__ = ("any", "below", "headed", "here", "lengths", "literal")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.headed: dict[str, _Node] = {}
        self.lengths: tuple[int, ...] = ()
        self.any: _Node | None = None
        self.here: list[_Entry] = []
        self.below: list[_Entry] = []

    def child(self, head: str, *, literal: bool) -> _Node:
        """The node under a literal segment, under a segment's literal head, or under any segment; made when it is missing."""
        if literal:
            return self.literal.setdefault(head, _Node())
        if head:
            node = self.headed.setdefault(head, _Node())
            self.lengths = tuple(sorted({len(known) for known in self.headed}))
            return node
        if self.any is None:
            self.any = _Node()
        return self.any


def _slashless(route: Any, part: dict[str, str]) -> bool:
    requirement = route.reqs.get(part["name"])
    if part["name"] == "controller" or (part["type"] == "*" and not requirement):
        return False
    return not requirement or _SLASHLESS.fullmatch(requirement) is not None


def _segments(route: Any) -> tuple[list[list[Any]], bool]:
    """A route's path cut at its slashes, each segment a list of texts and variables; and whether all of it was cut.

    The cut ends before the first segment with a variable that may hold a slash.
    """
    whole: list[list[Any]] = [[]]
    for part in route.routelist:
        if isinstance(part, dict):
            whole[-1].append(part)
            if not _slashless(route, part):
                return whole[:-1], False
        else:
            first, *others = part.split("/")
            if first:
                whole[-1].append(first)
            whole.extend([text] if text else [] for text in others)
    return whole, True


class RouteIndex:
    """An index over the routes of one mapper. Routes connected later are seen at the next request.

    Args:
        mapper: whose routes; its regular expressions are made here if they are missing.
        controllers: the names that a `{controller}` variable may take.
    """

    def __init__(self, mapper: Any, controllers: tuple[str, ...] = ()) -> None:
        self.mapper = mapper
        self._controllers = controllers
        self._root = _Node()
        self._size = -1
        self._domain: tuple[Any, ...] = (False, [], "")
        self._direct = False
        self._build()

    def _build(self) -> None:
        mapper = self.mapper
        size = len(mapper.matchlist)
        if not mapper._created_regs or size != self._size != -1:  # noqa: SLF001  (Routes has no other way to know)
            scan = mapper.controller_scan
            mapper.create_regs(*([list(self.controllers())] if self._controllers or not scan else []))
        self._domain = (mapper.sub_domains, mapper.sub_domains_ignore, mapper.domain_match)
        plain = type(mapper).routematch in (routes.Mapper.routematch, APIMapper.routematch)
        self._direct = bool(mapper.prefix or mapper.always_scan or mapper.debug) or not (
            plain and type(mapper)._match is routes.Mapper._match  # noqa: SLF001  (a subclass may match by itself)
        )
        root = _Node()
        for place, route in enumerate(mapper.matchlist):
            if not self._direct and not route.static:
                self._insert(root, place, route)
        for entries in _entry_lists(root):
            entries.sort(key=_rank)
        self._root, self._size = root, size

    def controllers(self) -> tuple[str, ...]:
        """The names that a `{controller}` variable may take, longest first as Routes wants them."""
        return tuple(sorted(self._controllers, key=len, reverse=True))

    def _insert(self, root: _Node, place: int, route: Any) -> None:
        literal = ""
        for part in route.routelist:
            if isinstance(part, dict):
                break
            literal += part
        if route.minimization and not literal.startswith("/"):
            literal = "/" + literal
        prefix = literal.rstrip("/")
        entry = _Entry((-len(prefix), place), route, prefix)
        if type(route).match is not Route.match:
            entry.slow = True
        if route.minimization:  # parts of the path may be missing: asked for every path under its prefix
            root.below.append(entry)
            return
        cut, complete = _segments(route)
        node = root
        bare: list[tuple[str, int]] = []
        proved = complete and not entry.slow and not self._domain[0]  # sub-domains add a variable
        for number, segment in enumerate(cut):
            if all(isinstance(part, str) for part in segment):
                node = node.child("".join(segment), literal=True)
                continue
            head = segment[0] if isinstance(segment[0], str) else ""
            node = node.child(head, literal=False)
            if len(segment) == 1 and segment[0]["type"] != "." and not route.reqs.get(segment[0]["name"]):
                bare.append((segment[0]["name"], number))
            else:
                proved = False
        if proved:
            entry.places = tuple(bare)
        (node.here if complete else node.below).append(entry)

    def _candidates(self, segments: list[str]) -> list[_Entry]:
        """The routes that can match a path, in the order in which Routes would ask them."""
        lists: list[list[_Entry]] = []
        level = [self._root]
        for segment in segments:
            following: list[_Node] = []
            for node in level:
                if node.below:
                    lists.append(node.below)
                child = node.literal.get(segment)
                if child is not None:
                    following.append(child)
                for length in node.lengths:
                    child = node.headed.get(segment[:length])
                    if child is not None and length <= len(segment):
                        following.append(child)
                if node.any is not None:
                    following.append(node.any)
            level = following
            if not level:
                break
        lists += [node.here for node in level if node.here]
        if len(lists) == 1:
            return lists[0]
        return sorted((entry for entries in lists for entry in entries), key=_rank)

    def find(self, path: str, method: str, environ: WSGIEnvironment) -> tuple[Variables, Any] | None:
        """The variables and the route of a path, as `mapper.routematch(path, environ)` gives them.

        Args:
            path: the decoded path.
            method: the method to match; the environ's own, or GET on behalf of a HEAD.
            environ: of the request, for the conditions; its REQUEST_METHOD is `method`.
        """
        if len(self.mapper.matchlist) != self._size:
            self._build()
        if path.endswith("\n"):
            return None
        if self._direct:
            found = self.mapper.routematch(path, environ)
            return (found[0], found[1]) if found and found[1] is not None else None
        segments = path.split("/")
        for entry in self._candidates(segments):
            if entry.methods is None or method in entry.methods:
                taken = entry.variables(path, segments, environ, self._domain)
                if taken is not None:
                    return taken, entry.route
        return None

    def allowed(self, path: str, environ: WSGIEnvironment) -> set[str]:
        """The methods that would have found a route here; empty where no route has this path."""
        if path.endswith("\n"):
            return set()
        tried: tuple[str, ...] = METHODS
        if not self._direct:
            segments = path.split("/")
            tried = tuple({name for entry in self._candidates(segments) for name in entry.methods or METHODS})
        return {name for name in tried if self.find(path, name, {**environ, "REQUEST_METHOD": name})}

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], str, str, Any]]:
        """Methods (empty: any), path, name and Route of every route, in the order of connect()."""
        for route in self.mapper.matchlist:
            if not route.static:
                yield tuple(sorted(_methods(route) or ())), str(route.routepath), str(route.name or ""), route


def _rank(entry: _Entry) -> tuple[int, int]:
    return entry.rank


def _entry_lists(node: _Node) -> Iterator[list[_Entry]]:
    yield node.here
    yield node.below
    children = [*node.literal.values(), *node.headed.values(), *([node.any] if node.any else [])]
    for child in children:
        yield from _entry_lists(child)
