"""GET /limits as an app to mount: the rate limits of the one who asks, and the absolute limits of the installation.

The rate limits are those that the ratelimit filter in front left in the environ; without it there are none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from apid.wsgi import answer, faults, kinds
from apid.wsgi.factory import app_factory, options_by_prefix

_KEY = "nova.limits"  # the ratelimit filter's; not imported, so that another limiter may leave it as well


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say."""

    absolute: dict[str, int] = options_by_prefix(
        kinds.integer(minimum=-1), "absolute.", help="An absolute limit by its name (maxTotalCores); -1 is unlimited."
    )


def rate(limits: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return nova's `rate`: limits grouped by (uri, regex), in the order in which they come."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for limit in limits:
        where = (limit["URI"], limit["regex"])
        group = groups.setdefault(where, {"uri": where[0], "regex": where[1], "limit": []})
        group["limit"].append(
            {
                "verb": limit["verb"],
                "value": limit["value"],
                "remaining": int(limit["remaining"]),
                "unit": limit["unit"],
                "next-available": datetime.fromtimestamp(limit["resetTime"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )
    return list(groups.values())


class Limits:
    """The app."""

    def __init__(self, options: Options) -> None:
        self._absolute = dict(options.absolute)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        if environ.get("PATH_INFO", "") not in ("", "/"):
            return faults.render(faults.NotFound(), environ, start_response)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return faults.render(faults.MethodNotAllowed(headers={"Allow": "GET, HEAD"}), environ, start_response)
        document = {"limits": {"rate": rate(environ.get(_KEY) or ()), "absolute": self._absolute}}
        return answer.send_json(environ, start_response, 200, document, [("Cache-Control", "no-cache")])


app = app_factory("limits", Options, Limits)
