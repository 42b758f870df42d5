"""The same API as nova and its kin wrote it: a wsgify class for every filter, RoutesMiddleware, WebOb responses. classic.ini."""

from __future__ import annotations

import json
import uuid

import routes
import routes.middleware
import webob
import webob.dec
import webob.exc

from tests.bench.pipeline import animals


class Middleware:
    """Base of the filters: process_request, the application, process_response."""

    def __init__(self, application, **options):
        self.application = application
        self.options = options

    @classmethod
    def factory(cls, global_conf, **local_conf):
        """For Paste."""
        return lambda application: cls(application, **local_conf)

    def process_request(self, req):
        """Before; an answer ends it here."""

    def process_response(self, response):
        """After."""
        return response

    @webob.dec.wsgify
    def __call__(self, req):
        """Around the application."""
        response = self.process_request(req)
        if response:
            return response
        return self.process_response(req.get_response(self.application))


class FaultWrapper(Middleware):
    """Errors as JSON."""

    @webob.dec.wsgify
    def __call__(self, req):
        """Around the application."""
        try:
            return req.get_response(self.application)
        except Exception:  # noqa: BLE001  (as it was)
            return Fault(webob.exc.HTTPInternalServerError())


class RequestId(Middleware):
    """An id a request."""

    @webob.dec.wsgify
    def __call__(self, req):
        """Around the application."""
        req.environ["openstack.request_id"] = request_id = "req-" + str(uuid.uuid4())
        response = req.get_response(self.application)
        response.headers["X-Openstack-Request-Id"] = request_id
        return response


class SizeLimit(Middleware):
    """No large bodies."""

    def process_request(self, req):
        """Refuse one."""
        if req.content_length is not None and req.content_length > 114688:
            raise webob.exc.HTTPRequestEntityTooLarge
        return


class NoAuth(Middleware):
    """Everybody is who they say."""

    def process_request(self, req):
        """Make the context."""
        user, _, project = req.headers.get("X-Auth-Token", "admin:admin").partition(":")
        req.environ["nova.context"] = {"user_id": user, "project_id": project or user, "is_admin": True}


class Fault(webob.exc.HTTPException):
    """An error as nova told it."""

    def __init__(self, exception):
        self.wrapped_exc = exception
        self.status_int = exception.status_int

    @webob.dec.wsgify(RequestClass=webob.Request)
    def __call__(self, req):
        """Answer."""
        body = {"computeFault": {"code": self.status_int, "message": self.wrapped_exc.explanation}}
        self.wrapped_exc.body = json.dumps(body).encode()
        self.wrapped_exc.content_type = "application/json"
        return self.wrapped_exc


class Controller:
    """The methods."""

    def index(self, req, project_id):
        """List."""
        return animals.index()

    def show(self, req, project_id, id):
        """Show one."""
        found = animals.show(id)
        if found is None:
            raise webob.exc.HTTPNotFound
        return found


class Resource:
    """The WSGI application around a controller."""

    def __init__(self, controller):
        self.controller = controller

    @webob.dec.wsgify(RequestClass=webob.Request)
    def __call__(self, request):
        """Dispatch."""
        args = request.environ["wsgiorg.routing_args"][1].copy()
        del args["controller"]
        action = args.pop("action")
        content_type = request.accept.best_match(["application/json"]) or "application/json"
        try:
            result = getattr(self.controller, action)(req=request, **args)
        except webob.exc.HTTPException as error:
            return Fault(error)
        response = webob.Response(status=200, content_type=content_type)
        response.body = json.dumps(result).encode()
        return response


class API:
    """The routes."""

    def __init__(self):
        mapper = routes.Mapper()
        resource = Resource(Controller())
        mapper.connect("/{project_id}/animals", controller=resource, action="index", conditions={"method": ["GET"]})
        mapper.connect("/{project_id}/animals/{id}", controller=resource, action="show", conditions={"method": ["GET"]})
        self._router = routes.middleware.RoutesMiddleware(self._dispatch, mapper)

    @classmethod
    def factory(cls, global_conf, **local_conf):
        """For Paste."""
        return cls()

    @webob.dec.wsgify
    def __call__(self, req):
        """Route."""
        return self._router

    @staticmethod
    @webob.dec.wsgify
    def _dispatch(req):
        match = req.environ["wsgiorg.routing_args"][1]
        if not match:
            return webob.exc.HTTPNotFound()
        return match["controller"]


class Versions:
    """What stands at the root, so that urlmap has two entries."""

    @webob.dec.wsgify
    def __call__(self, req):
        """Answer."""
        return webob.Response(json_body={"versions": []}, status=300)


def versions_factory(global_conf, **local_conf):
    """For Paste."""
    return Versions()
