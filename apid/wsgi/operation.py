"""An Operation: one method of a controller, what it declares, and the extensions around it.

Which operation a request is for, and how its result is written, is `resource`'s matter.
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from apid.wsgi import controller, faults
from apid.wsgi.microversions import KEY as VERSION_KEY
from apid.wsgi.response import ResponseObject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apid.wsgi.microversions import Window
    from apid.wsgi.request import Request

log = logging.getLogger(__name__)


class Operation:
    """One method of a controller with what it declares, for the microversions of one window.

    Args:
        method: the bound method.
        span: the microversions it is for.
    """

    def __init__(self, method: Callable[..., Any], span: Window) -> None:
        self.method = method
        self.span = span
        self.declared = controller.declared(method)
        parameters = inspect.signature(method).parameters
        self.takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        self.names = frozenset(parameters)
        self.takes_body = "body" in self.names or bool(self.declared.bodies) or self.takes_all
        self.takes_query = "query" in self.names
        self.extensions: tuple[Callable[..., Any], ...] = ()
        self.plain = not (self.takes_body or self.declared.queries or self.takes_query)

    def arguments(
        self, request: Request, variables: Mapping[str, Any], body: object, *, has_body: bool
    ) -> dict[str, Any]:
        """The keyword arguments of one call.

        Raises:
            BadRequest: body or query do not fit their schemas.
        """
        found = {name: value for name, value in variables.items() if self.takes_all or name in self.names}
        if self.plain:
            return found
        version = request.environ.get(VERSION_KEY)
        for span, schema in self.declared.bodies:
            if span.holds(version):
                if not has_body:
                    raise faults.BadRequest("The request has no body.", error="body.missing")
                schema.check(body, "body")
        if "body" in self.names or (self.takes_all and has_body):
            found["body"] = body
        query: dict[str, Any] | None = None
        for span, schema in self.declared.queries:
            if span.holds(version):
                query = schema.read(request.query)
        if self.takes_query:
            found["query"] = dict(request.query) if query is None else query
        return found

    def call(self, request: Request, arguments: dict[str, Any]) -> Any:
        """Call a method; an error that it did not declare is a bug."""
        expected = self.declared.expected
        try:
            if self.extensions:
                return self._around(request, arguments)
            return self.method(request, **arguments)
        except Exception as exc:
            code = getattr(exc, "code", None)
            if expected is None or not faults.is_answer(exc) or code in expected or code in (401, 403):
                raise
            log.exception("%s: undeclared error in %s", request.request_id, self.method.__qualname__)
            raise faults.ApiError(f"Unexpected API error ({type(exc).__name__}). Please report it.") from exc

    def _around(self, request: Request, arguments: dict[str, Any]) -> Any:
        """Call a method with the extensions around it (nova's order: before as registered, afterwards in reverse)."""
        afterwards: list[Any] = []
        for extension in self.extensions:
            if not inspect.isgeneratorfunction(extension):
                afterwards.append(extension)
                continue
            running = extension(request, **arguments)
            try:
                early = next(running)
            except StopIteration as stop:
                early = stop.value
            else:
                afterwards.append(running)
            if early is not None:
                return early
        result = self.method(request, **arguments)
        if not isinstance(result, (dict, list, ResponseObject)) and result is not None:
            return result  # a response that is complete; nova leaves it alone as well
        wrapped = result if isinstance(result, ResponseObject) else ResponseObject(result, self.declared.code)
        for extension in reversed(afterwards):
            if inspect.isgenerator(extension):
                try:
                    other = extension.send(wrapped)  # type: ignore[arg-type]  # isgenerator() tells nothing of what it takes
                except StopIteration as stop:
                    other = stop.value
            else:
                other = extension(request, resp_obj=wrapped, **arguments)
            if other is not None:
                return other
        return wrapped
