"""The OpenAPI document: valid, and saying what the API says."""

from __future__ import annotations

import pytest
from openapi_spec_validator import validate

from apid.wsgi.openapi import Document, OpenAPI, factory
from apid.wsgi.router import Router
from apid.wsgi.testing import Client
from apid.wsgi.validation import body_schema
from tests.wsgi.zoo import Zoo


@pytest.fixture(scope="module")
def document():
    return Document(Zoo(), "/v1", "Zoo", "1.3").build()


def test_it_is_valid(document):
    validate(document)


def test_paths_methods_and_parameters(document):
    item = document["paths"]["/v1/animals/{id}"]
    assert sorted(item) == ["delete", "get", "put"]
    assert [parameter["name"] for parameter in item["get"]["parameters"]] == ["id", "OpenStack-API-Version"]
    names = {parameter["name"]: parameter for parameter in document["paths"]["/v1/animals"]["get"]["parameters"]}
    assert names["legs"]["schema"] == {"type": "integer"}
    assert item["get"]["x-openstack-min-versions"] == ["1.1", "1.2"]


def test_bodies_and_codes(document):
    create = document["paths"]["/v1/animals"]["post"]
    reference = create["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert schema["required"] == ["animal"]
    assert sorted(create["responses"]) == ["201", "default"]
    action = document["paths"]["/v1/animals/{id}/action"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    assert [one["allOf"][0]["required"] for one in action["anyOf"]] == [["feed"]]


def test_references_inside_a_schema_move_with_it():
    class Things:
        @body_schema(
            {"$defs": {"n": {"type": "integer"}}, "type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}
        )
        def create(self, req, body):
            return body

    class API(Router):
        ROUTES = {"/things/{id:[0-9]+}": {"POST": (Things, "create")}}

    document = Document(API()).build()
    validate(document)
    assert (
        document["components"]["schemas"]["Things_create"]["properties"]["n"]["$ref"]
        == "#/components/schemas/Things_create/$defs/n"
    )
    assert document["paths"]["/things/{id}"]["post"]["parameters"][0]["schema"]["pattern"] == "^(?:[0-9]+)$"


def test_the_application(document):
    client = Client(OpenAPI(document))
    assert client.get("").json["openapi"] == "3.1.0"
    assert client.head("/").body == b""
    assert client.options("").code == 204
    assert client.post("").code == 405
    assert client.get("/more").code == 404


class Loader:
    def __init__(self, app):
        self.app = app

    def get_app(self, name, global_conf=None):
        return self.app


def test_the_factory():
    assert Client(factory(Loader(Zoo()), {}, api="zoo", path="/v9", title="T")).get("").json["info"]["title"] == "T"
    with pytest.raises(ValueError, match="api is needed"):
        factory(Loader(Zoo()), {})
    with pytest.raises(TypeError, match="no Router"):
        factory(Loader(object()), {}, api="zoo")
    with pytest.raises(ValueError, match="unknown option 'nope'"):
        factory(Loader(Zoo()), {}, api="zoo", nope="1")
