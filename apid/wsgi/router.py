"""The Router: from a request's path and method to the application that answers it.

It knows routes and methods, and nothing of bodies or media types (`resource`). Routes' Mapper holds the routes; RoutesMiddleware
is not used: it would let `?_method=DELETE` override the method, and keeps its state in a thread-local.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from routes.util import URLGenerator

from apid.wsgi import answer, faults, links
from apid.wsgi.mapper import APIMapper
from apid.wsgi.resource import Resource
from apid.wsgi.routeindex import METHODS, RouteIndex, Variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from apid.wsgi.microversions import Microversions

Target = Any
"""What a ROUTES table names: (controller, action), where the controller is a class or an instance, or a WSGI application."""


class Router:
    """A WSGI application made of routes.

    A subclass fills ROUTES, or gives a mapper, or both:

        class API(Router):
            ROUTES = {"/animals": {"GET": (Animals, "index"), "POST": (Animals, "create")}}

        class API(Router):
            def __init__(self, mapper=None):
                mapper = mapper or APIMapper()
                mapper.connect("/", controller=Resource(Animals()), action="index")
                super().__init__(mapper)

    Every path answers OPTIONS, and HEAD where it answers GET; a method that a path does not know gets 405 with Allow.

    Args:
        mapper: a Routes Mapper; an APIMapper when None.

    Raises:
        ValueError: a route has no application to call, or a ROUTES entry is malformed.
        TypeError: a ROUTES entry names neither a controller's method nor an application.
    """

    ROUTES: ClassVar[Mapping[str, Mapping[str, Target]]] = {}
    """Path to method to target."""
    microversions: ClassVar[Microversions | None] = None
    """The range of microversions; None for an API without them."""
    controllers: ClassVar[Mapping[str, WSGIApplication]] = {}
    """Applications by the name that a `{controller}` variable or a controller given as text takes."""

    def __init__(self, mapper: Any = None) -> None:
        self.map = APIMapper() if mapper is None else mapper
        self._resources: dict[object, Resource] = {}
        self.connect_all()
        self._index = RouteIndex(self.map, tuple(self.controllers))
        for route in self.map.matchlist:
            self._check(route)

    @classmethod
    def factory(cls, global_conf: Mapping[str, str], **local_conf: str) -> WSGIApplication:  # noqa: ARG003  (Paste's signature)
        """Make the application for Paste Deploy."""
        return cls()

    def connect_all(self) -> None:
        """Connect the routes of the table to the mapper; a subclass may connect more."""
        for path, methods in self.ROUTES.items():
            for method, target in methods.items():
                self._connect(path, method, target)

    def _connect(self, path: str, method: str, target: Target) -> None:
        where = f"{type(self).__name__}.ROUTES, {method} {path}"
        if not method.isupper():
            raise ValueError(f"{where}: a method is written in capitals")
        conditions = {"method": [method]}
        if isinstance(target, tuple):
            if len(target) != 2:
                raise ValueError(f"{where}: want (controller, action), got {target!r}")
            controller, action = target
            resource = self._resources.get(controller)
            if resource is None:
                resource = self._resources[controller] = self.make_resource(controller)
            if not resource.knows(action):
                raise ValueError(f"{where}: {type(resource.controller).__name__} has no {action}()")
            self.map.connect(f"{method} {path}", path, controller=resource, action=action, conditions=conditions)
        elif callable(target) and not isinstance(target, type):
            self.map.connect(f"{method} {path}", path, controller=target, conditions=conditions)
        else:
            raise TypeError(f"{where}: want (controller, action) or a WSGI application, got {target!r}")

    def make_resource(self, controller: Any) -> Resource:
        """The Resource around a controller of the ROUTES table; a class is called without arguments."""
        return Resource(controller() if isinstance(controller, type) else controller)

    def _check(self, route: Any) -> None:
        target = route.defaults.get("controller")
        named = any(isinstance(part, dict) and part["name"] == "controller" for part in route.routelist)
        if route.static or route.redirect or named or callable(target) or target in self.controllers:
            return
        raise ValueError(f"the route {route.routepath!r} has no application to call: its controller is {target!r}")

    def apid_routes(self) -> list[tuple[tuple[str, ...], str, str]]:
        """Methods (empty: any), path and name of every route, for `apid --check-config`; Controller.method where it has one."""
        return [(methods, path, _label(route, name)) for methods, path, name, route in self._index]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request by the application of its route."""
        if self.microversions is not None:
            start_response = self.microversions.echo(environ, start_response)
            try:
                self.microversions.wanted(environ)
            except faults.ApiError as exc:
                return faults.render(exc, environ, start_response)
        path = environ.get("PATH_INFO", "")
        if not path.isascii():
            try:  # PEP 3333 carries the bytes of the path as latin-1
                path = path.encode("latin-1").decode("utf-8")
            except UnicodeError:
                return faults.render(faults.BadRequest("The path is not valid UTF-8."), environ, start_response)
        method = environ["REQUEST_METHOD"]
        found = self._index.find(path, method, environ)
        if found is not None:
            return self._dispatch(found[0], found[1], environ, start_response)
        return self._unmatched(path, method, environ, start_response)

    def _dispatch(
        self, variables: Variables, route: Any, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Call what a route leads to, with the keys in the environ that RoutesMiddleware would have set."""
        url = URLGenerator(self.map, environ)
        environ["wsgiorg.routing_args"] = (url, variables)
        environ["routes.route"] = route
        environ["routes.url"] = url
        if route.redirect:
            location = url(f"_redirect_{id(route)}", **variables)
            # "//host" is another server's address (RFC 3986, 4.2), and the path is the client's
            location = "/" + location.lstrip("/") if location.startswith("//") else location
            headers = [("Location", _absolute(environ, location))]
            return answer.send(start_response, int(route.redirect_status[:3]), headers)
        if "path_info" in variables:
            _shift(environ, variables["path_info"] or "")
        app = variables.get("controller")
        if isinstance(app, str):
            app = self.controllers.get(app)
        if app is None:
            return faults.render(faults.NotFound(), environ, start_response)
        application: WSGIApplication = app
        return application(environ, start_response)

    def _unmatched(
        self, path: str, method: str, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """HEAD as GET without its body, OPTIONS, 405, a mount point without its slash, 404."""
        if method == "HEAD":
            found = self._index.find(path, "GET", {**environ, "REQUEST_METHOD": "GET"})
            if found is not None:
                return _without_body(self._dispatch(found[0], found[1], environ, start_response))
        if path == "*" and method == "OPTIONS":  # asks about the server as a whole (RFC 9110, 9.3.7)
            return answer.send(start_response, 204, [("Allow", ", ".join(sorted((*METHODS, "HEAD", "OPTIONS"))))])
        allowed = self._index.allowed(path, environ)
        if allowed:
            allow = ", ".join(sorted(allowed | {"OPTIONS"} | ({"HEAD"} if "GET" in allowed else set())))
            if method == "OPTIONS":
                return answer.send(start_response, 204, [("Allow", allow)])
            return faults.render(faults.MethodNotAllowed(headers={"Allow": allow}), environ, start_response)
        if path == "" and self._index.allowed("/", environ):  # the mount point itself: /v1 is /v1/
            query = environ.get("QUERY_STRING", "")
            location = links.application_url(environ) + "/" + ("?" + query if query else "")
            code = 302 if method in ("GET", "HEAD") else 307
            return answer.send(start_response, code, [("Location", location)])
        return self.not_found(environ, start_response)

    def not_found(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a path that no route has; a subclass may know better."""
        return faults.render(faults.NotFound(), environ, start_response)


def _label(route: Any, name: str) -> str:
    resource, action = route.defaults.get("controller"), route.defaults.get("action")
    return f"{type(resource.controller).__name__}.{action}" if isinstance(resource, Resource) else name


def _absolute(environ: WSGIEnvironment, location: str) -> str:
    """A location with scheme and host: keystoneauth, for one, follows no other."""
    return links.host_url(environ) + location if location.startswith("/") else location


def _shift(environ: WSGIEnvironment, rest: str) -> None:
    """Move what a `{path_info:.*}` route has matched from PATH_INFO to SCRIPT_NAME, as RoutesMiddleware does."""
    rest = rest.encode("utf-8").decode("latin-1")
    path = environ["PATH_INFO"]
    matched = path.removesuffix(rest)
    environ["PATH_INFO"] = rest if rest.startswith("/") else "/" + rest
    environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + matched.removesuffix("/")


def _without_body(body: Iterable[bytes]) -> Iterable[bytes]:
    """Nothing of a body that must not be sent, closed as PEP 3333 asks."""
    for _ in body:  # a generator calls start_response with its first item only
        break
    close = getattr(body, "close", None)
    if close is not None:
        close()
    return []
