"""Extensions: additions to an API that are found by entry point, listed at /extensions, and allowed or denied by alias.

The contract is nova's: a class with name, alias, updated and a docstring; `get_resources()` adds resources, and
`get_controller_extensions()` goes around the methods of others (`controller.extends`). What a router does with them is in
`apirouter`.
"""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import stevedore

from apid.wsgi import faults
from apid.wsgi.validation import query_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from apid.wsgi.request import Request

log = logging.getLogger(__name__)


class ExtensionError(Exception):
    """The set of extensions cannot be served: an alias is used twice, or a required one is missing."""


@dataclass(frozen=True)
class ResourceExtension:
    """A further resource.

    Args:
        collection: the segment of the path, such as `toys`.
        controller: the controller.
        parent: `{"member_name": …, "collection_name": …}` of the resource that it hangs below.
        collection_actions: action to method, at the collection.
        member_actions: action to method, at a member.
        custom_routes_fn: called with the mapper and the Resource to connect more.
        inherits: the collection whose extensions apply here too.
        member_name: one of the collection; the collection without its last letter when empty.
    """

    collection: str
    controller: Any
    parent: Mapping[str, str] | None = None
    collection_actions: Mapping[str, str] = field(default_factory=dict)
    member_actions: Mapping[str, str] = field(default_factory=dict)
    custom_routes_fn: Callable[[Any, Any], None] | None = None
    inherits: str | None = None
    member_name: str = ""


@dataclass(frozen=True)
class ControllerExtension:
    """Methods that go around those of another controller, and further actions for it.

    Args:
        extension: whose it is.
        collection: the resource that it is for.
        controller: the object with the methods.
    """

    extension: ExtensionDescriptor
    collection: str
    controller: Any


class ExtensionDescriptor:
    """Base of an extension; nova's contract. Its docstring is its description.

    Args:
        manager: the manager, with which it registers itself.
    """

    name = ""
    """For people."""
    alias = ""
    """Unique among the extensions of an API."""
    namespace = ""
    updated = ""
    """When it last changed: ISO 8601 with its zone."""

    def __init__(self, manager: ExtensionManager) -> None:
        manager.register(self)

    def get_resources(self) -> Sequence[ResourceExtension]:
        """The resources that it adds."""
        return ()

    def get_controller_extensions(self) -> Sequence[ControllerExtension]:
        """What it puts around the methods of others."""
        return ()


def shown(extension: Any) -> dict[str, Any]:
    """An extension as its entry in a list."""
    return {
        "name": extension.name,
        "alias": extension.alias,
        "description": inspect.getdoc(extension) or "",
        "namespace": extension.namespace,
        "updated": extension.updated,
        "links": [],
    }


class ExtensionManager:
    """The extensions of one API.

    A broken one is left out, said in the log and kept in `failures`; the API starts without it.

    Args:
        namespace: the entry point group to load from; none when empty.
        allow: the aliases that are served; all when empty.
        deny: aliases that are not, whatever `allow` says.
        required: aliases without which the API must not start.
        classes: further extensions, given as classes.

    Raises:
        ExtensionError: an alias is used twice, or a required one is missing.
    """

    def __init__(
        self,
        namespace: str = "",
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        required: Iterable[str] = (),
        classes: Iterable[Callable[[ExtensionManager], Any]] = (),
    ) -> None:
        self.extensions: dict[str, Any] = {}
        self.failures: dict[str, str] = {}
        self._allow, self._deny = frozenset(allow), frozenset(deny)
        for one in classes:
            self._start(getattr(one, "__name__", repr(one)), one)
        if namespace:
            found: stevedore.ExtensionManager[Any] = stevedore.ExtensionManager(
                namespace, on_load_failure_callback=self._load_failed
            )
            for entry in sorted(found, key=lambda entry: (entry.name, entry.entry_point.value)):
                self._start(entry.name, entry.plugin)
        missing = sorted(set(required) - set(self.extensions))
        if missing:
            causes = "; ".join(f"{name}: {reason}" for name, reason in self.failures.items())
            raise ExtensionError(
                f"required extensions are missing: {', '.join(missing)}{f' ({causes})' if causes else ''}"
            )

    def _load_failed(self, _manager: Any, entry_point: Any, exc: BaseException) -> None:
        self._failed(entry_point.name, exc)

    def _failed(self, name: str, reason: object) -> None:
        text = f"{type(reason).__name__}: {reason}" if isinstance(reason, BaseException) else str(reason)
        self.failures[name] = text
        log.warning("extension %s is left out: %s", name, text)

    def _start(self, name: str, factory: Callable[[ExtensionManager], Any]) -> None:
        """Make one extension; whatever is wrong with it stays with it, except an alias that is taken."""
        if not self._permits(getattr(factory, "alias", "") or name):
            return
        try:
            made = factory(self)
        except ExtensionError:
            raise
        except Exception as exc:  # noqa: BLE001  (foreign code: the API starts without it)
            self._failed(name, exc)
            return
        if not any(made is known for known in self.extensions.values()) and name not in self.failures:
            self._failed(name, "it did not register itself")

    def _permits(self, alias: str) -> bool:
        return alias not in self._deny and (not self._allow or alias in self._allow)

    def register(self, extension: Any) -> None:
        """Take an extension in; called by its constructor.

        Raises:
            ExtensionError: another one has its alias.
            ValueError: it lacks something of the contract.
        """
        missing = [what for what in ("name", "alias", "updated") if not getattr(extension, what, "")]
        if missing or not inspect.getdoc(extension):
            raise ValueError(f"{type(extension).__name__} has no {', '.join(missing) or 'docstring'}")
        if not self._permits(extension.alias):
            self.failures[extension.alias] = "not allowed"
            return
        other = self.extensions.get(extension.alias)
        if other is not None:
            raise ExtensionError(
                f"two extensions have the alias {extension.alias!r}: "
                f"{_whence(other)} and {_whence(extension)}; deny one of them"
            )
        self.extensions[extension.alias] = extension

    def leave_out(self, extension: Any, exc: Exception) -> None:
        """Drop an extension that failed after its start."""
        self.extensions.pop(extension.alias, None)
        self._failed(extension.alias, exc)

    def __iter__(self) -> Iterator[Any]:
        """The extensions, by alias; leave_out() may be called meanwhile."""
        return iter([self.extensions[alias] for alias in sorted(self.extensions)])


def _whence(extension: Any) -> str:
    return f"{type(extension).__module__}.{type(extension).__qualname__}"


_NO_QUERY: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


class ExtensionsController:
    """GET /extensions and /extensions/<alias>.

    Args:
        manager: whose extensions.
    """

    def __init__(self, manager: ExtensionManager) -> None:
        self._manager = manager

    @query_schema(_NO_QUERY)
    def index(self, req: Request) -> Any:  # noqa: ARG002  (every method takes the request)
        """List the extensions."""
        return {"extensions": [shown(self._manager.extensions[alias]) for alias in sorted(self._manager.extensions)]}

    @query_schema(_NO_QUERY)
    def show(self, req: Request, alias: str) -> Any:  # noqa: ARG002  (every method takes the request)
        """Show one extension."""
        extension = self._manager.extensions.get(alias)
        if extension is None:
            raise faults.NotFound(f"There is no extension {alias[:64]!r}.", error="extension.unknown")
        return {"extension": shown(extension)}
