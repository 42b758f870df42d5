"""PEP 3333 on every application and filter of the toolkit: wsgiref.validate and paste.lint find nothing."""

from __future__ import annotations

import warnings
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from paste import lint
from paste.deploy import loadapp

from apid.wsgi.testing import Client
from tests.wsgi.zoo import Zoo

TOP = Path(__file__).parents[2]

REQUESTS = [
    ("GET", "/", {}),
    ("HEAD", "/", {}),
    ("OPTIONS", "/", {}),
    ("DELETE", "/", {}),
    ("GET", "/v1/", {}),
    ("HEAD", "/v1/", {}),
    ("GET", "/v1", {}),
    ("GET", "/v1/extensions", {}),
    ("POST", "/v1/extensions", {"json": {}}),
    ("GET", "/v1/extensions/x", {}),
    ("GET", "/v9/x", {}),
    ("GET", "/openapi.json", {}),
    ("GET", "/healthcheck", {}),
    ("HEAD", "/healthcheck", {}),
    ("GET", "/nope", {}),
    ("POST", "/nope", {"body": b"x" * 200000}),
    ("GET", "/%ff", {}),
]
ZOO = [
    ("GET", "/animals?legs=x", {}),
    ("POST", "/animals", {"json": {"animal": {"name": "a"}}}),
    ("POST", "/animals", {"body": b"{"}),
    ("DELETE", "/animals/7", {}),
    ("POST", "/animals/7/action", {"json": {"feed": None}}),
    ("GET", "/odd/webob_response", {}),
    ("GET", "/odd/webob_error", {}),
    ("GET", "/odd/limited", {}),
    ("HEAD", "/plain", {}),
    ("GET", "/below/x", {}),
]


@pytest.fixture(params=["wsgiref", "paste.lint"])
def checked(request):
    """A client whose application is held against PEP 3333 by one of the two."""

    def make(application):
        if request.param == "wsgiref":
            return Client(application)
        return Client(lint.middleware(application), validate=False)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield make


def test_the_shipped_pipeline(checked):
    client = checked(loadapp(f"config:{TOP}/etc/apid/api-paste.ini"))
    for method, target, options in REQUESTS:
        assert client.request(method, target, **options).code < 500


def test_everything_a_controller_does(checked):
    client = checked(Zoo())
    for method, target, options in ZOO:
        assert client.request(method, target, **options).code < 500


ENTRIES = {entry.name: entry for entry in entry_points(group="paste.filter_factory") if entry.value.startswith("apid.")}
OPTIONS = {
    "opentelemetry": {"exporter": "none"},  # the other exporters send from threads that outlive a test
    "ipfilter": {"allow": "127.0.0.0/8"},
    "cors": {"allowed_origin": "https://example.org"},
    "keystonecontext": {"require_authtoken": "false"},
}
IDENTITY = {"X-Auth-Token": "u:p", "X-User-Id": "u", "X-Project-Id": "p", "X-Roles": "member"}


@pytest.mark.parametrize("name", sorted(set(ENTRIES) - {"authtoken"}))  # which asks a Keystone
def test_every_filter_on_the_way_through(checked, name, tmp_path, tables_closed):
    options = {"state_dir": str(tmp_path)} if name == "ratelimit" else OPTIONS.get(name, {})
    application = ENTRIES[name].load()({}, **options)(Zoo())
    tables_closed.append(application)
    client = checked(application)
    for method, target, more in ZOO:
        assert client.request(method, target, headers=IDENTITY, **more).code < 500
