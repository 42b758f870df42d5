"""The APIRouter: a Router with extensions.

Its resources are known by their collection, so that an extension can name the one it goes around.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from apid.wsgi.extensions import ExtensionManager, ExtensionsController
from apid.wsgi.resource import Resource
from apid.wsgi.router import Router

if TYPE_CHECKING:
    from collections.abc import Mapping
    from wsgiref.types import WSGIApplication

    from apid.wsgi.extensions import ResourceExtension


class APIRouter(Router):
    """A Router that loads the extensions of an entry point group and lists them at /extensions.

    Args:
        mapper: as for Router.
        extensions: the manager; made from `extension_namespace` when None.

    Raises:
        ExtensionError: two extensions have the same alias, or a required one is missing.
    """

    extension_namespace: ClassVar[str] = ""
    """The entry point group of the extensions."""
    extension_classes: ClassVar[tuple[type, ...]] = ()
    """Extensions that come with the API."""
    required_extensions: ClassVar[tuple[str, ...]] = ()
    """Aliases without which the API must not start."""
    extension_prefix: ClassVar[str] = ""
    """What stands before the collections of extensions, such as `/{project_id}`."""

    def __init__(self, mapper: Any = None, extensions: ExtensionManager | None = None) -> None:
        if extensions is None:
            extensions = ExtensionManager(
                self.extension_namespace, required=self.required_extensions, classes=self.extension_classes
            )
        self.extensions = extensions
        super().__init__(mapper)

    @classmethod
    def factory(cls, global_conf: Mapping[str, str], **local_conf: str) -> WSGIApplication:  # noqa: ARG003  (Paste's signature)
        """Make the application for Paste Deploy.

        Options: `extensions_allow` and `extensions_deny`, aliases with blanks or commas between.

        Raises:
            ValueError: an option is unknown.
        """
        allow, deny = local_conf.pop("extensions_allow", ""), local_conf.pop("extensions_deny", "")
        if local_conf:
            raise ValueError(f"app {cls.__name__}: unknown option {min(local_conf)!r}")
        manager = ExtensionManager(
            cls.extension_namespace,
            allow=_words(allow),
            deny=_words(deny),
            required=cls.required_extensions,
            classes=cls.extension_classes,
        )
        return cls(None, manager)

    def connect_all(self) -> None:
        """Connect the table, then what the extensions add, then /extensions."""
        super().connect_all()
        by_collection = self._by_collection()
        for extension in self.extensions:
            try:
                for added in extension.get_resources():
                    by_collection[added.collection] = [self._connect_resource(added)]
            except Exception as exc:  # noqa: BLE001  (foreign code: the API starts without it)
                self.extensions.leave_out(extension, exc)
        for extension in self.extensions:
            try:
                for around in extension.get_controller_extensions():
                    for resource in by_collection.get(around.collection, ()):
                        resource.extend(around.controller)
            except Exception as exc:  # noqa: BLE001  (as above)
                self.extensions.leave_out(extension, exc)
        self.connect_listing("")

    def connect_listing(self, prefix: str) -> None:
        """Connect the list of extensions at `prefix`/extensions; for an API that is also served below `/{project_id}`."""
        listing = Resource(ExtensionsController(self.extensions))
        only_get = {"method": ["GET"]}
        for action, path in (("index", f"{prefix}/extensions"), ("show", f"{prefix}/extensions/{{alias}}")):
            self.map.connect(f"GET {path}", path, controller=listing, action=action, conditions=only_get)

    def _by_collection(self) -> dict[str, list[Resource]]:
        """The resources of the table by the first literal segment of their paths."""
        found: dict[str, list[Resource]] = {}
        for route in self.map.matchlist:
            resource = route.defaults.get("controller")
            literal = [
                piece for piece in str(route.routepath).split("/") if piece and "{" not in piece and ":" not in piece
            ]
            if isinstance(resource, Resource) and literal and resource not in found.setdefault(literal[0], []):
                found[literal[0]].append(resource)
        return found

    def _connect_resource(self, added: ResourceExtension) -> Resource:
        """Connect the routes of an extension's resource: the five of a collection, and its actions."""
        resource = self.make_resource(added.controller)
        base = f"{self.extension_prefix}/{added.collection}"
        if added.parent:
            member = added.parent["member_name"]
            base = f"{self.extension_prefix}/{added.parent['collection_name']}/{{{member}_id}}/{added.collection}"
        table = [(base, "GET", "index"), (base, "POST", "create")]
        table += [(f"{base}/{action}", method, action) for action, method in added.collection_actions.items()]
        table += [(f"{base}/{{id}}/{action}", method, action) for action, method in added.member_actions.items()]
        table += [
            (base + "/{id}", "GET", "show"),
            (base + "/{id}", "PUT", "update"),
            (base + "/{id}", "DELETE", "delete"),
        ]
        for path, method, action in table:
            if resource.knows(action):
                self.map.connect(
                    f"{method} {path}", path, controller=resource, action=action, conditions={"method": [method]}
                )
        if added.custom_routes_fn is not None:
            added.custom_routes_fn(self.map, resource)
        return resource


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()
