"""The shipped pipeline, in process: the list of versions, one version, and what is neither."""

from __future__ import annotations

import json
from pathlib import Path
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from paste.deploy import loadapp

INI = Path(__file__).parents[2] / "etc/apid/api-paste.ini"


@pytest.fixture(scope="module")
def app():
    return loadapp(f"config:{INI}")


def call(app, path, method="GET", **environ):
    environ = {"PATH_INFO": path, "REQUEST_METHOD": method, "QUERY_STRING": "", "SCRIPT_NAME": "", **environ}
    setup_testing_defaults(environ)
    seen = {}

    def start_response(status, headers, exc_info=None):
        seen.update(status=status, headers=dict(headers))
        return lambda data: None

    body = validator(app)(environ, start_response)
    try:
        data = b"".join(body)
    finally:
        body.close()
    return int(seen["status"][:3]), seen["headers"], json.loads(data) if data else None


def test_root_is_300_with_the_versions(app):
    code, headers, document = call(app, "/")
    assert code == 300
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-cache"
    (entry,) = document["versions"]
    assert entry["id"] == "v1"
    assert entry["status"] == "CURRENT"
    assert entry["links"][0] == {"rel": "self", "href": "http://127.0.0.1/v1/"}


def test_version_document(app):
    code, _, document = call(app, "/v1/")
    assert code == 200
    assert document["version"]["links"][0]["href"] == "http://127.0.0.1/v1/"


def test_mount_without_its_slash_is_sent_to_it(app):
    code, headers, _ = call(app, "/v1", QUERY_STRING="a=1")
    assert (code, headers["Location"]) == (302, "http://127.0.0.1/v1/?a=1")


@pytest.mark.parametrize("path", ["/nope", "/v1/nope", "/vx", "/versionsx"])
def test_unknown_path_is_a_json_404_with_a_request_id(app, path):
    code, headers, document = call(app, path)
    assert code == 404
    assert document["itemNotFound"]["request_id"] == headers["X-Openstack-Request-Id"]


def test_unknown_version_gets_choices(app):
    code, _, document = call(app, "/v9/things/7")
    assert code == 300
    assert document["choices"][0]["links"][0]["href"] == "http://127.0.0.1/v1/things/7"


def test_head_options_and_405(app):
    code, headers, document = call(app, "/v1/", "HEAD")
    assert (code, document) == (200, None)
    assert int(headers["Content-Length"]) > 100
    code, headers, document = call(app, "/v1/", "OPTIONS")
    assert (code, headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
    code, headers, document = call(app, "/v1/", "DELETE")
    assert (code, headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert document["badMethod"]["code"] == 405
