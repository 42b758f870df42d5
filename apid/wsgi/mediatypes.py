"""Media types: what Accept and Content-Type ask for, and the version that nova lets them carry.

Reading a body in a media type is `serializers`' work; this module only compares names.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

KEY = "apid.best_content_type"
NOVA_KEY = "nova.best_content_type"
JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
"""RFC 6902: operations, which are no document; read only where a deserializer says so."""
_LONGEST = 1024
_PARAMETER = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;,\s"]*)\s*')


class Mask(NamedTuple):
    """One item of an Accept header."""

    name: str
    quality: float
    parameters: tuple[tuple[str, str], ...]

    def takes(self, name: str) -> bool:
        """Tell whether a media type is covered."""
        if self.name in ("*/*", "*") or self.name == name:
            return True
        return self.name.endswith("/*") and name.startswith(self.name[:-1])

    def parameter(self, wanted: str) -> str:
        """The value of a parameter; empty when it is missing."""
        return dict(self.parameters).get(wanted, "")


def _item(text: str) -> Mask:
    name, *rest = text.split(";")
    parameters = []
    for piece in rest:
        match = _PARAMETER.fullmatch(piece)
        if match:
            parameters.append((match[1].lower(), match[2].strip('"')))
    try:
        quality = float(dict(parameters).get("q", 1))
    except ValueError:
        quality = 0.0
    return Mask(name.strip().lower(), quality if 0 <= quality <= 1 else 0.0, tuple(parameters))


@functools.lru_cache(maxsize=256)
def accepted(header: str) -> tuple[Mask, ...]:
    """The items of an Accept header, best first: by q, then by fewer asterisks, then as written."""
    if len(header) > _LONGEST:
        return ()
    masks = [mask for mask in map(_item, header.split(",")) if mask.name and mask.quality > 0]
    return tuple(sorted(masks, key=lambda mask: (-mask.quality, mask.name.count("*"))))


def content_type(header: str) -> Mask:
    """A Content-Type header as a media type and its parameters."""
    return _item(header[:_LONGEST])


def best(header: str, supported: tuple[str, ...]) -> tuple[str, Mask | None]:
    """The supported media type that an Accept header likes most, and the item that chose it; the first one without a match."""
    for mask in accepted(header):
        for name in supported:
            if mask.takes(name):
                return name, mask
    return supported[0], None


def of(environ: WSGIEnvironment, supported: tuple[str, ...] = (JSON,)) -> str:
    """The media type to answer in: the path's suffix, the best of Accept, or the first supported one. Kept in the environ."""
    found = environ.get(KEY)
    if found in supported:
        return str(found)
    suffix = environ.get("PATH_INFO", "").rpartition("/")[2].rpartition(".")[2]
    by_suffix = f"application/{suffix}"
    name = by_suffix if by_suffix in supported else best(environ.get("HTTP_ACCEPT", ""), supported)[0]
    environ[KEY] = environ[NOVA_KEY] = name
    return name
