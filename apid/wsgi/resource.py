"""The Resource: a WSGI application around a controller. Reads the request, calls the method, writes what it returns.

Which method is the router's answer (`action` among the route's variables); what a method declares is in `controller`. A fault
that the method raises is answered here; anything unforeseen goes up to the faultwrap filter.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from apid.wsgi import answer, controller, faults, mediatypes, serializers
from apid.wsgi.context import KEY as CONTEXT_KEY
from apid.wsgi.microversions import KEY as VERSION_KEY
from apid.wsgi.operation import Operation
from apid.wsgi.request import Request
from apid.wsgi.response import ResponseObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIEnvironment

    from apid.wsgi.microversions import APIVersion


class Resource:
    """A WSGI application around a controller; a Router calls it with the route's variables in the environ.

    Args:
        controller: the object with the methods.
        serializers: media type to a function from a document to bytes, besides or instead of JSON.
        deserializers: media type to a function from bytes to a document, besides or instead of JSON.
        max_body: bytes of a body that are read.
    """

    def __init__(
        self,
        controller: Any,
        serializers: Mapping[str, Callable[[Any], bytes]] | None = None,
        deserializers: Mapping[str, Callable[[bytes], Any]] | None = None,
        max_body: int = 1 << 20,
    ) -> None:
        self.controller = controller
        self._serializers = {mediatypes.JSON: answer.json_bytes, **(serializers or {})}
        self._media_types = tuple(self._serializers)
        self._deserializers = _readers(deserializers)
        self._max_body = max_body
        self.operations: dict[str, tuple[Operation, ...]] = {}
        self.actions: dict[str, tuple[Operation, ...]] = {}
        for name, method in inspect.getmembers(controller, callable):
            if not name.startswith("_"):
                self._add(name, method)

    def _add(self, name: str, method: Callable[..., Any]) -> None:
        """Read what one method of the controller declares."""
        try:
            found = tuple(
                Operation(
                    function.__get__(self.controller)
                    if hasattr(function, "__get__") and function is not method
                    else function,
                    span,
                )
                for span, function in controller.windows(method)
            )
        except (TypeError, ValueError):  # a built-in without a signature is no method of an API
            return
        key = found[0].declared.action
        if key is not None:
            if key in self.actions:
                raise ValueError(f"{type(self.controller).__name__} has two actions {key!r}")
            self.actions[key] = found
        self.operations[name] = found

    def extend(self, extension: Any) -> None:
        """Put a controller extension around the methods; its own actions are added.

        Raises:
            ValueError: it goes around a method or action that does not exist, or adds an action that does.
        """
        for name, method in inspect.getmembers(extension, callable):
            said = controller.declared(method)
            if name.startswith("_"):
                continue
            if said.extends:
                around = self.actions.get(said.extends_action) if said.extends_action else self.operations.get(name)
                if around is None:
                    what = said.extends_action or name
                    raise ValueError(
                        f"{type(extension).__name__}.{name} extends {what!r}, which {type(self.controller).__name__} has not"
                    )
                for operation in around:
                    operation.extensions += (method,)
            elif said.action is not None:
                self._add(name, method)

    def knows(self, action: str) -> bool:
        """Tell whether a route to this action can be answered."""
        return action in self.operations or (action == "action" and bool(self.actions))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        try:
            operation, result = self._perform(request, environ)
        except Exception as exc:
            if not faults.is_answer(exc):
                raise
            return faults.render(exc, environ, start_response)
        return self._write(operation, result, environ, start_response)

    def _perform(self, request: Request, environ: WSGIEnvironment) -> tuple[Operation, Any]:
        """Find the method, read what it takes, call it."""
        text = environ.get("QUERY_STRING", "")
        if "%" in text or not text.isascii():
            _ = request.query  # one that is not UTF-8 is refused, also by a method that never looks at it
        variables = dict(environ["wsgiorg.routing_args"][1])
        variables.pop("controller", None)
        name = variables.pop("action", None)
        variables.pop("format", None)
        if "project_id" in variables:
            _same_project(environ.get(CONTEXT_KEY), variables["project_id"])
        choices = self.operations.get(name) if isinstance(name, str) else None
        body: object = None
        has_body = False
        length = environ.get("CONTENT_LENGTH")
        if (length and length != "0") or "HTTP_TRANSFER_ENCODING" in environ:
            raw = serializers.read_body(environ, self._max_body)
            has_body = bool(raw)
            if has_body:
                if choices is not None and not any(choice.takes_body for choice in choices):
                    raise faults.BadRequest("This operation takes no request body.", error="body.unexpected")
                body = self._read(environ.get("CONTENT_TYPE", ""), raw)
        if choices is None and name == "action":
            choices = self._action(body)
        if choices is None:
            raise faults.NotFound
        version: APIVersion | None = environ.get(VERSION_KEY)
        for operation in choices:
            if operation.span.holds(version):
                break
        else:
            if version is not None:
                raise faults.NotFound(f"Not available in version {version} of this API.", error="microversion.absent")
            operation = choices[-1]
        arguments = operation.arguments(request, variables, body, has_body=has_body)
        return operation, operation.call(request, arguments)

    def _read(self, header: str, raw: bytes) -> object:
        """A body as a document.

        Raises:
            UnsupportedMediaType: no deserializer knows its media type.
        """
        name = mediatypes.content_type(header).name
        reader = self._deserializers.get(name)
        if reader is None and name.endswith("+json") and name != mediatypes.JSON_PATCH:
            reader = self._deserializers.get(mediatypes.JSON)
        if reader is None:
            said = (
                f"The media type {name[:64]!r} is not supported"
                if name
                else "The request has a body and no Content-Type"
            )
            raise faults.UnsupportedMediaType(
                f"{said}; this API reads {', '.join(self._deserializers)}.",
                headers={"Accept": ", ".join(self._deserializers)},
                error="media_type.unsupported",
            )
        return reader(raw)

    def _action(self, body: object) -> tuple[Operation, ...]:
        """The methods behind the one key of an action's body.

        Raises:
            BadRequest: there is not exactly one key, or no action has it.
        """
        if not isinstance(body, dict) or len(body) != 1:
            raise faults.BadRequest(
                "The body of an action is an object with exactly one key, the action's name.", error="action.body"
            )
        (key,) = body
        found = self.actions.get(key)
        if found is None:
            raise faults.BadRequest(f"There is no such action: {key[:64]!r}.", error="action.unknown")
        return found

    def _write(
        self, operation: Operation, result: Any, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer with what a method returned."""
        code, headers = operation.declared.code, []
        if isinstance(result, ResponseObject):
            code = result.code or code
            headers = [(name, answer.one_line(str(value))) for name, value in result.headers.items()]
            result = result.obj
        elif callable(result):  # a WebOb Response, or any other WSGI application
            application: Iterable[bytes] = result(environ, start_response)
            return application
        if result is None:
            return answer.send(start_response, code, headers)
        name = self._media_types[0]
        if len(self._media_types) > 1:
            name = mediatypes.of(environ, self._media_types)
            headers.append(("Vary", "Accept"))
        body = self._serializers[name](result)
        headers.append(("Content-Type", name))
        return (
            answer.send(start_response, code, headers, body)
            if environ["REQUEST_METHOD"] != "HEAD"
            else _head(start_response, code, headers, body)
        )


def _head(start_response: StartResponse, code: int, headers: answer.Headers, body: bytes) -> Iterable[bytes]:
    answer.send(start_response, code, headers, body)
    return []


def _readers(further: Mapping[str, Callable[[bytes], Any]] | None) -> dict[str, Callable[[bytes], Any]]:
    return {mediatypes.JSON: serializers.read_json, **(further or {})}


def _same_project(context: Any, project_id: object) -> None:
    """Refuse a path that names another project than the one authenticated.

    Raises:
        BadRequest: it does.
    """
    owner = getattr(context, "project_id", None)
    if owner is not None and project_id is not None and project_id != owner:
        raise faults.BadRequest(
            "Malformed request URL: its project is not the one of the token.", error="project.mismatch"
        )
