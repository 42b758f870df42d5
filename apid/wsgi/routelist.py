"""The routes of an application for people: what `apid --check-config` prints. Looks through filters, ours and others'."""

from __future__ import annotations

from typing import Any

Row = tuple[tuple[str, ...], str, str]
"""Methods (none: any), path, name."""
_INNER = ("application", "_app", "app")
"""Where filters keep what they wrap."""


def routes_of(application: Any) -> list[Row]:
    """The routes that an application tells, itself or behind its filters; nothing where none of them tells any."""
    for _ in range(50):  # a wrapper that wraps itself would never end
        tell = getattr(application, "apid_routes", None)
        if tell is not None:
            rows: list[Row] = tell()
            return rows
        application = next(
            (getattr(application, name) for name in _INNER if callable(getattr(application, name, None))), None
        )
        if application is None:
            break
    return []
