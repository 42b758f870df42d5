"""Pages of a list: limit, marker, sort keys, and the link to the next page (api-sig, pagination).

How a page is fetched is the controller's matter; `Page` reads what was asked for and writes the links.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from apid.wsgi import faults, links

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from apid.wsgi.request import Request

MAX_LIMIT = 1000
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_LARGEST = 2**63 - 1
"""As in bodies: what fits in 64 bits. Clients say it (sys.maxsize) when they mean all."""


@dataclass(frozen=True)
class Page:
    """What one request asks for.

    Attributes:
        limit: the most items that the page may hold.
        marker: the id of the last item seen; None for the first page.
        offset: items to skip (legacy).
        sort: keys, each with "asc" or "desc".
    """

    limit: int
    marker: str | None = None
    offset: int = 0
    sort: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, req: Request, *, max_limit: int = MAX_LIMIT, sort_keys: Sequence[str] = ()) -> Page:
        """Read the query string.

        Args:
            req: the request.
            max_limit: the most items of a page; also what limit 0 and no limit mean.
            sort_keys: the keys that a client may sort by; a direction without a key is for the first.

        Raises:
            BadRequest: a number is negative or none, or a sort key or direction is unknown, or a key is given twice.
        """
        query = req.query
        limit = _number(query, "limit")
        keys = query.get("sort_key", [])
        directions = query.get("sort_dir", [])
        if len(directions) > max(len(keys), 1):
            raise faults.BadRequest("There are more values of sort_dir than of sort_key.")
        for key in keys:
            if key not in sort_keys:
                raise faults.BadRequest(f"Cannot sort by {key[:64]!r}; it can be {', '.join(sort_keys) or 'nothing'}.")
        if len(set(keys)) < len(keys):  # each adds a term to the order, and to the condition of the page after a marker
            raise faults.BadRequest("A sort_key is given twice.")
        for direction in directions:
            if direction not in ("asc", "desc"):
                raise faults.BadRequest(f"sort_dir is {direction[:64]!r}; it can be asc or desc.")
        keys = keys or list(sort_keys[: len(directions)])
        padded = [*directions, *["asc"] * (len(keys) - len(directions))]
        marker = query.get("marker", [""])[-1]
        return cls(
            min(limit or max_limit, max_limit),
            marker or None,
            _number(query, "offset"),
            tuple(zip(keys, padded, strict=False)),
        )

    def cut(self, items: Iterable[Any], identify: Callable[[Any], str]) -> list[Any]:
        """One page out of all items in their order, for a store that cannot do it itself.

        Raises:
            BadRequest: no item has the id of the marker.
        """
        found = list(items)
        if self.marker is not None:
            places = [place for place, item in enumerate(found) if identify(item) == self.marker]
            if not places:
                raise unknown_marker(self.marker)
            found = found[places[0] + 1 :]
        return found[self.offset : self.offset + self.limit]

    def links(self, req: Request, last_id: str | None, count: int) -> list[dict[str, str]]:
        """The link to the next page; none when this page is not full.

        Args:
            req: the request.
            last_id: the id of the last item on this page.
            count: how many items this page has.
        """
        if last_id is None or count < self.limit:
            return []
        kept = [(name, value) for name, values in req.query.items() for value in values]
        kept = [(name, value) for name, value in kept if name not in ("limit", "marker", "offset")]
        query = urlencode([*kept, ("limit", self.limit), ("marker", last_id)])
        base = links.application_url(req.environ) + links.quoted(req.environ.get("PATH_INFO", ""))
        return [{"rel": "next", "href": f"{base}?{query}"}]

    def document(self, req: Request, name: str, items: list[Any], identify: Callable[[Any], str]) -> dict[str, Any]:
        """A page as `{name: items, name_links: […]}`."""
        next_page = self.links(req, identify(items[-1]) if items else None, len(items))
        return {name: items, **({f"{name}_links": next_page} if next_page else {})}


def unknown_marker(marker: str) -> faults.BadRequest:
    """The error for a marker that is no item's id."""
    return faults.BadRequest(f"There is no item {marker[:64]!r} to start after.", error="marker.unknown")


def _number(query: dict[str, list[str]], name: str) -> int:
    text = query.get(name, ["0"])[-1]
    if not _NUMBER.fullmatch(text) or int(text) > _LARGEST:
        raise faults.BadRequest(f"{name} is {text[:64]!r}; it must be an integer from 0 to {_LARGEST}.")
    return int(text)
