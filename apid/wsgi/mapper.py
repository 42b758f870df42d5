"""Nova's mappers: Routes' Mapper with the rules that OpenStack's APIs share.

Matching is Routes' own (see `routeindex` for the fast way to the same answer).
"""

from __future__ import annotations

from typing import Any

import routes


class APIMapper(routes.Mapper):  # type: ignore[misc]  # Routes has no types
    """A Mapper for APIs: nothing thread-local, and a `format` is `json` unless said otherwise, so that dots stay in ids."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("controller_scan", None)
        options.setdefault("register", False)  # else it stays in a threading.local of Routes, for ever
        super().__init__(**options)

    def connect(self, *args: Any, **kargs: Any) -> None:
        """Connect a route; see Routes."""
        requirements = dict(kargs.get("requirements") or {})
        requirements.setdefault("format", "json")
        kargs["requirements"] = requirements
        super().connect(*args, **kargs)

    def create_regs(self, *args: Any, **kwargs: Any) -> None:
        """Make the regular expressions; done for you by the Router and before the first match."""
        super().create_regs(*args, **kwargs)

    def routematch(self, url: str | None = None, environ: Any = None) -> Any:
        """Match as Routes does, and let routes be connected later without a call to create_regs()."""
        if not self._created_regs:
            self.create_regs([])
        return super().routematch(url, environ)


class ProjectMapper(APIMapper):
    """An APIMapper whose resources stand below `/{project_id}/`, as nova's did."""

    project = "{project_id:[0-9a-f-]+}"
    """The first segment. Nova's pattern; a subclass may say another one."""

    def resource(self, member_name: str, collection_name: str, **kwargs: Any) -> None:
        """Connect the routes of a resource, below its parent or below the project."""
        parent = kwargs.get("parent_resource")
        if parent is None:
            kwargs["path_prefix"] = f"{self.project}/"
        else:
            collection, member = parent["collection_name"], parent["member_name"]
            kwargs["path_prefix"] = f"{self.project}/{collection}/:{member}_id"
        super().resource(member_name, collection_name, **kwargs)
