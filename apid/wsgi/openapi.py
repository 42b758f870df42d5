"""The OpenAPI 3.1 document of an API, made from its routes, schemas and microversions.

    [composite:openapi]
    use = egg:apid#openapi
    api = api
    path = /v1

Nothing is declared twice: what the router, the schemas and the windows say is all that stands in the document. `path` is where
urlmap mounts the API; the composite loads the application itself, without the filters around it.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from apid.wsgi import answer, faults
from apid.wsgi.microversions import HEADER
from apid.wsgi.resource import Resource
from apid.wsgi.router import Router

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from apid.wsgi.operation import Operation

_METHODS = ("get", "post", "put", "patch", "delete")
_FAULT = {
    "type": "object",
    "description": "One member, named after the kind of fault.",
    "minProperties": 1,
    "additionalProperties": True,
}
_NAME = re.compile(r"[^A-Za-z0-9]+")


class Document:
    """Builds the document of one router.

    Args:
        router: whose routes.
        path: where it is mounted, without a slash at the end.
        title: of the API.
        version: of the API.
    """

    def __init__(self, router: Router, path: str = "", title: str = "", version: str = "1") -> None:
        self._router = router
        self._path = path.rstrip("/")
        self._title = title or type(router).__name__
        self._version = version
        self._schemas: dict[str, Any] = {"Fault": _FAULT}
        self._ids: set[str] = set()

    def build(self) -> dict[str, Any]:
        """The document."""
        paths: dict[str, dict[str, Any]] = {}
        for route in self._router.map.matchlist:
            resource = route.defaults.get("controller")
            if route.static or route.redirect or not isinstance(resource, Resource):
                continue
            template, parameters = _path(route)
            wanted = (route.conditions or {}).get("method") or ["GET"]
            item = paths.setdefault(self._path + template, {})
            for method in [wanted] if isinstance(wanted, str) else wanted:
                if method.lower() in _METHODS and method.lower() not in item:
                    item[method.lower()] = self._operation(
                        method, template, resource, route.defaults.get("action"), parameters
                    )
        return {
            "openapi": "3.1.0",
            "info": {"title": self._title, "version": self._version},
            "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
            "paths": paths,
            "components": {"schemas": self._schemas, "responses": {"Fault": _fault_response()}},
        }

    def _operation(
        self, method: str, template: str, resource: Resource, action: str, parameters: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """One method of one path."""
        keyed = action == "action" and "action" not in resource.operations
        operations = resource.operations.get(action, ())
        name = self._unique(f"{type(resource.controller).__name__}_{action}", method, template)
        if keyed:
            operations = tuple(one for group in resource.actions.values() for one in group)
        found: dict[str, Any] = {"operationId": name, "tags": [type(resource.controller).__name__]}
        text = (
            inspect.getdoc(operations[-1].method)
            if operations and not keyed
            else "One action, named by the key of the body."
        )
        if text:
            found["summary"], _, rest = text.partition("\n")
            if rest.strip():
                found["description"] = rest.strip()
        listed = [*parameters, *self._version_parameter(), *self._query(operations)]
        if listed:
            found["parameters"] = listed
        body = self._action_body(resource, name) if keyed else self._body(operations, name)
        if body:
            found["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
        found["responses"] = self._responses(operations)
        windows = [str(one.span.lowest) for one in operations if one.span.lowest.major]
        if windows:
            found["x-openstack-min-versions"] = windows
        return found

    def _unique(self, name: str, method: str, template: str) -> str:
        if name in self._ids:
            name = _NAME.sub("_", f"{method.lower()}{template}").strip("_")
        while name in self._ids:
            name += "_"
        self._ids.add(name)
        return name

    def _version_parameter(self) -> list[dict[str, Any]]:
        range_ = self._router.microversions
        if range_ is None:
            return []
        service = range_.service_type
        text = f"{service} X.Y, from {range_.lowest} to {range_.highest}, or {service} latest; what is for others is ignored."
        known = {"enum": [f"{service} {version}" for version in (*range_.all(), "latest")]}
        foreign = {"type": "string", "not": {"pattern": rf"(^|,)\s*{_letters(service)}(\s|,|$)"}}
        schema = {"anyOf": [known, foreign]}
        return [{"name": HEADER, "in": "header", "required": False, "description": text, "schema": schema}]

    def _query(self, operations: Iterable[Operation]) -> Iterator[dict[str, Any]]:
        """The parameters of the query schemas, those of all windows together."""
        seen: set[str] = set()
        for operation in operations:
            for _, schema in operation.declared.queries:
                required = schema.document.get("required", [])
                for name, inner in schema.document.get("properties", {}).items():
                    if name not in seen:
                        seen.add(name)
                        yield {"name": name, "in": "query", "required": name in required, "schema": inner}

    def _body(self, operations: Iterable[Operation], name: str) -> dict[str, Any] | None:
        """The schema of the body: that of the one window, or any of several."""
        found: list[dict[str, Any]] = []
        for operation in operations:
            for span, schema in operation.declared.bodies:
                suffix = f"_{span.lowest.major}_{span.lowest.minor}" if span.lowest.major else ""
                found.append(self._component(f"{name}{suffix}", schema.document))
            if not operation.declared.bodies and "body" in operation.names:
                found.append({})
        return found[0] if len(found) == 1 else {"anyOf": found} if found else None

    def _action_body(self, resource: Resource, name: str) -> dict[str, Any]:
        """Any of the actions: an object with the action's key, or its own schema."""
        found = []
        for key, operations in resource.actions.items():
            schema = self._body(operations, f"{name}_{key}") or {}
            one = {"type": "object", "required": [key], "minProperties": 1, "maxProperties": 1}
            found.append({"allOf": [one, schema]} if schema else one)
        return {"anyOf": found}

    def _component(self, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Put a schema among the components; its own references then start there."""
        while name in self._schemas:
            name += "_"
        self._schemas[name] = _moved(document, f"#/components/schemas/{name}")
        return {"$ref": f"#/components/schemas/{name}"}

    def _responses(self, operations: Iterable[Operation]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for code in sorted({operation.declared.code for operation in operations}):
            entry: dict[str, Any] = {"description": answer.status_line(code)[4:]}
            if code not in answer.BODILESS:
                entry["content"] = {"application/json": {"schema": {}}}
            found[str(code)] = entry
        found["default"] = {"$ref": "#/components/responses/Fault"}
        return found


def _letters(name: str) -> str:
    """A pattern for a name in any case: JSON Schema's patterns have no flag for it."""
    return "".join(f"[{one.lower()}{one.upper()}]" if one.isalpha() else re.escape(one) for one in name)


def _fault_response() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Fault"}}}
    return {"description": "A fault.", "content": content}


def _path(route: Any) -> tuple[str, list[dict[str, Any]]]:
    """A route's path as OpenAPI writes it, and its parameters."""
    template, parameters = "", []
    for part in route.routelist:
        if not isinstance(part, dict):
            template += part
            continue
        if part["type"] == ".":
            continue  # the optional format: the path without it is the same resource
        template += f"{{{part['name']}}}"
        schema: dict[str, Any] = {"type": "string", "minLength": 1}
        requirement = route.reqs.get(part["name"])
        if requirement:
            schema["pattern"] = f"^(?:{requirement})$"
        parameters.append({"name": part["name"], "in": "path", "required": True, "schema": schema})
    return template if template.startswith("/") else "/" + template, parameters


def _moved(schema: Any, base: str) -> Any:
    """A schema whose references to its own root start at another place."""
    if isinstance(schema, dict):
        moved = {key: _moved(value, base) for key, value in schema.items()}
        reference = moved.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            moved["$ref"] = base + reference[1:]
        return moved
    return [_moved(item, base) for item in schema] if isinstance(schema, list) else schema


class OpenAPI:
    """A WSGI application that answers with the document; it is built once.

    Args:
        document: the document.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = dict(document)
        self._body = answer.json_bytes(self._document)

    def apid_routes(self) -> list[tuple[tuple[str, ...], str, str]]:
        """What this application answers, for `apid --check-config`."""
        return [(("GET",), "", "openapi")]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with the document."""
        allow = [("Allow", "GET, HEAD, OPTIONS")]
        if environ.get("PATH_INFO", "") not in ("", "/"):
            return faults.render(faults.NotFound(), environ, start_response)
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return answer.send(start_response, 204, allow)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return faults.render(faults.MethodNotAllowed(headers=dict(allow)), environ, start_response)
        body = answer.send(start_response, 200, [("Content-Type", "application/json")], self._body)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body


def factory(loader: Any, global_conf: Mapping[str, str], **local_conf: str) -> WSGIApplication:
    """Make the application for Paste Deploy.

    Options: `api` (the section of the API's own application), `path`, `title`, `version`.

    Raises:
        ValueError: `api` is missing or names something that is no Router, or an option is unknown.
    """
    name = local_conf.pop("api", "")
    if not name:
        raise ValueError("openapi: the option api is needed: the name of the section of the API's application")
    router = loader.get_app(name, global_conf=global_conf)
    if not isinstance(router, Router):
        raise TypeError(f"openapi: api = {name} is no Router; name the application itself, not a pipeline with filters")
    document = Document(
        router, local_conf.pop("path", ""), local_conf.pop("title", ""), local_conf.pop("version", "1")
    ).build()
    if local_conf:
        raise ValueError(f"openapi: unknown option {min(local_conf)!r}")
    return OpenAPI(document)
