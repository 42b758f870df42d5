"""What a resource does with bodies, media types, lengths and paths that are wrong."""

from __future__ import annotations

import json

import pytest

from apid.wsgi import faults
from apid.wsgi.testing import Client
from apid.wsgi.validation import Schema
from tests.wsgi.zoo import Zoo

BAD_BODIES = [
    b"{",
    b"",
    b"nul",
    b'{"animal": {"name": "a", "name": "b"}}',
    b'{"animal": {"name": "a", "legs": NaN}}',
    b'{"animal": {"name": "a", "legs": Infinity}}',
    b'{"animal": {"name": "a", "legs": 1e999}}',
    b'{"animal": {"name": "a", "legs": 9223372036854775808}}',
    b'{"animal": {"name": "a", "legs": ' + b"9" * 5000 + b"}}",
    b'{"animal": {"name": "\\ud800"}}',
    b'{"animal": {"name": "\xff"}}',
    '{"animal": {"name": "a"}}'.encode("utf-16"),
    b"\xef\xbb\xbf{}",
    b"[" * 100000 + b"]" * 100000,
    b'{"a":' * 100 + b"1" + b"}" * 100,
    b"[" * 65 + b"]" * 65,
    b'{"animal": {"name": "a"}} trailing',
    b"\x00",
]


TAKES_BODY = ["POST /animals", "POST /animals/7/action", "PUT /animals/7"]
BAD = [
    (target, body) for target in TAKES_BODY for body in BAD_BODIES if body or "PUT" not in target
]  # update has no schema


@pytest.mark.parametrize(("target", "body"), BAD, ids=lambda value: repr(value[:24]))
def test_a_bad_body_is_400(zoo, target, body):
    method, path = target.split()
    answer = zoo.request(method, path, body=body, headers={"Content-Type": "application/json"})
    assert answer.code == 400
    assert answer.fault["message"]


def test_a_body_of_a_thousand_mistakes_is_told_one():
    checked = []
    schema = Schema({"type": "array", "items": {"type": "string"}})
    real = schema._validator

    class Counting:
        def evolve(self, **changes):
            nonlocal real
            real = real.evolve(**changes)
            return self

        def iter_errors(self, document):
            for error in real.iter_errors(document):
                checked.append(error)
                yield error

    schema._validator = Counting()
    with pytest.raises(faults.BadRequest, match="is not of type 'string'"):
        schema.check([1] * 100000, "body")
    assert len(checked) < 100


def test_a_body_of_64_levels_is_read(zoo):
    assert zoo.put("/animals/7", body=b"[" * 64 + b"]" * 64, headers={"Content-Type": "application/json"}).code == 200


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "application/xml",
        "json",
        "a/b;c=\xff",
    ],
)
def test_another_media_type_is_415(zoo, kind):
    answer = zoo.post("/animals", body=b'{"animal": {"name": "Rex"}}', headers={"Content-Type": kind})
    assert answer.code == 415
    assert answer.headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.openstack.zoo+json;version=1"]
)
def test_json_in_its_spellings(zoo, kind):
    assert zoo.post("/animals", body=b'{"animal": {"name": "Rex"}}', headers={"Content-Type": kind}).code == 201


def test_a_body_on_get_is_400(zoo):
    assert zoo.get("/animals", json={}).code == 400
    assert zoo.delete("/animals/7", json={}).code == 400


def test_a_body_larger_than_allowed_is_413(zoo):
    assert zoo.put("/animals/7", body=b" " * (1 << 20) + b"1", headers={"Content-Type": "application/json"}).code == 413


@pytest.mark.parametrize("length", ["-1", "1_0", "x", "+5", "\u0663", "9" * 40])
def test_a_bad_content_length(length):
    client = Client(Zoo(), validate=False)
    answer = client.put("/animals/7", body=b"1", headers={"Content-Type": "application/json", "Content-Length": length})
    assert answer.code in (400, 413)


def test_a_body_that_ends_early_is_400():
    client = Client(Zoo(), validate=False)
    answer = client.put("/animals/7", body=b"1", headers={"Content-Type": "application/json", "Content-Length": "10"})
    assert (answer.code, answer.fault["message"]) == (400, "The request body ends before its Content-Length.")


def test_a_chunked_body_is_read_where_the_server_ends_it():
    client = Client(Zoo(), environ={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}, validate=False)
    environ = client.environ("PUT", "/animals/7", {"Content-Type": "application/json"}, b"[1]")
    del environ["CONTENT_LENGTH"]
    seen = []
    body = Zoo()(environ, lambda status, headers, exc_info=None: seen.append(status))
    assert json.loads(b"".join(body))["body"] == [1]


@pytest.mark.parametrize(
    "path", ["/animals/%ff", "/%c3", "/animals?legs=%ff", "/animals?%ff=1", "/animals?legs=\xff", "/animals/7?x=%ff"]
)
def test_bad_utf8_is_400(zoo, path):
    answer = zoo.get(path)
    assert answer.code == 400
    assert "UTF-8" in answer.fault["message"]


def test_a_query_string_of_a_million_fields_is_400(zoo):
    assert zoo.get("/animals?" + "a&" * 2000).code == 400


@pytest.mark.parametrize(
    "path", ["", "*", "//", "/..", "/animals/", "/animals/7/8", "/%00", "/animals%0a", "/" + "x/" * 5000]
)
@pytest.mark.parametrize("method", ["GET", "BREW", "get", "", "OPTIONS", "TRACE"])
def test_odd_paths_and_methods_are_never_500(path, method):
    answer = Client(Zoo(), validate=False).request(method, path)
    assert answer.code < 500
