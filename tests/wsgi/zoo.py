"""A small API with everything in it, for the tests of the toolkit."""

from __future__ import annotations

import urllib.error
from typing import ClassVar

import webob
import webob.exc

from apid.wsgi import faults
from apid.wsgi.controller import action, expected_errors, response, window
from apid.wsgi.microversions import Microversions
from apid.wsgi.response import ResponseObject
from apid.wsgi.router import Router
from apid.wsgi.validation import body_schema, query_schema

NEW = {
    "type": "object",
    "properties": {
        "animal": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 32},
                "legs": {"type": "integer", "minimum": 0},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
    "required": ["animal"],
    "additionalProperties": False,
}
FILTERS = {
    "type": "object",
    "properties": {
        "legs": {"type": "integer"},
        "tame": {"type": "boolean", "default": False},
        "kind": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "weight": {"type": "number"},
    },
    "additionalProperties": False,
}


class Animals:
    @query_schema(FILTERS)
    def index(self, req, query):
        return {"animals": [], "query": query}

    @window("1.1", "1.1")
    def show(self, req, id):
        return {"animal": {"id": id, "since": "1.1"}}

    @window("1.2")
    def show(self, req, id):  # noqa: F811  (the other window)
        return {"animal": {"id": id, "since": "1.2"}}

    @response(201)
    @body_schema(NEW)
    def create(self, req, body):
        return ResponseObject(body, headers={"Location": "/animals/7"})

    def update(self, req, id, body):
        return {"id": id, "body": body}

    @response(204)
    def delete(self, req, id):
        return None

    @action("adopt")
    @response(202)
    def _adopt(self, req, id, body):
        raise AssertionError("methods with an underscore are nobody's")

    @action("feed")
    @response(202)
    @body_schema({"type": "object", "properties": {"feed": {"type": ["object", "null"]}}})
    def feed(self, req, id, body):
        return {"fed": id, "with": body["feed"]}


class Odd:
    """Everything that a controller may do wrong, or differently."""

    def ours(self, req):
        raise faults.Conflict("Somebody was faster.", error="animal.taken")

    def webob_error(self, req):
        raise webob.exc.HTTPForbidden(explanation="Not for you.")

    def webob_response(self, req):
        return webob.Response(body=b"plain", content_type="text/plain", status=299)

    def bug(self, req):
        raise RuntimeError("secret: /etc/shadow")

    def type_error(self, req):
        return 1 + "1"

    def coded(self, req):
        error = RuntimeError("secret")
        error.code = 409
        raise error

    def unsafe(self, req):
        error = RuntimeError("secret")
        error.code, error.safe = 409, False
        raise error

    def upstream(self, req):
        raise urllib.error.HTTPError("http://inside/", 404, "secret", {"Server": "secret"}, None)

    def safe(self, req):
        error = RuntimeError("for your eyes")
        error.code, error.safe = 409, True
        raise error

    def nan(self, req):
        return {"x": float("nan")}

    def unserializable(self, req):
        return {"x": object()}

    @expected_errors(404)
    def undeclared(self, req):
        raise faults.Conflict("nobody said 409")

    @expected_errors(404)
    def declared(self, req):
        raise faults.NotFound("as declared")

    @expected_errors(404)
    def forbidden(self, req):
        raise faults.Forbidden

    def limited(self, req):
        raise faults.RateLimited("Only 3 GET requests a minute.", 12.3)

    def recursion(self, req):
        return self.recursion(req)

    def located(self, req):
        return ResponseObject({}, 201, {"Location": "/x\r\nSet-Cookie: stolen=1", "X-Number": 7, "X-Wide": "\u20ac"})

    def lines(self, req):
        raise faults.BadRequest("x", headers={"X-A": "1\r\nSet-Cookie: stolen=1"})


def plain_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode("latin-1")


class Zoo(Router):
    ROUTES: ClassVar = {
        "/animals": {"GET": (Animals, "index"), "POST": (Animals, "create")},
        "/animals/{id}": {"GET": (Animals, "show"), "PUT": (Animals, "update"), "DELETE": (Animals, "delete")},
        "/animals/{id}/action": {"POST": (Animals, "action")},
        **{f"/odd/{name}": {"GET": (Odd, name)} for name in vars(Odd) if not name.startswith("_")},
        "/plain": {"GET": plain_app},
        "/below{path_info:.*}": {"GET": plain_app},
    }
    microversions = Microversions("zoo", "1.1", "1.3", legacy_header="X-OpenStack-Zoo-API-Version")
