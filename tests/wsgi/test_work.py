"""No request makes the toolkit work more than in proportion to its size: each test counts operations for one and four sizes."""

from __future__ import annotations

import contextlib
import io
import json
from types import SimpleNamespace

import pytest

from apid.api.controllers.animals import _tags
from apid.http import framing
from apid.wsgi import catalogue, faults, mediatypes
from apid.wsgi.mapper import APIMapper
from apid.wsgi.microversions import Microversions
from apid.wsgi.middleware.debug import masked
from apid.wsgi.middleware.healthcheck import AppOptions, Healthcheck
from apid.wsgi.middleware.keystonecontext import KeystoneContext
from apid.wsgi.middleware.keystonecontext import Options as KeystoneOptions
from apid.wsgi.middleware.sizelimit import CountedInput
from apid.wsgi.paging import Page
from apid.wsgi.ratelimit.limit import Limit
from apid.wsgi.ratelimit.remote import RemoteCounts
from apid.wsgi.request import Request, parse_query
from apid.wsgi.router import Router
from apid.wsgi.serializers import read_body, read_json
from apid.wsgi.urlmap import URLMap
from apid.wsgi.validation import QuerySchema, Schema
from apid.wsgi.validator import MOST_ERRORS, Allowance, TooMuchWorkError, identity
from tests.support.operations import CountedText, growth, operations

SQUARE = 8
"""Between 4, what four times the input costs when work is linear, and 16."""


def refused(schema, document):
    """What a compiled schema says about a document; empty where it fits."""
    try:
        schema.check(document, "body")
    except faults.BadRequest as fault:
        return fault.message
    return ""


def refusal(schema, document):
    """The same of one that is not compiled."""
    return refused(Schema(schema), document)


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(lambda i: {"a": i}, id="objects"),
        pytest.param(lambda i: [i, {}], id="arrays"),
        pytest.param(lambda i: i if i % 2 else str(i), id="mixed"),
        pytest.param(lambda i: [i, str(i), [i], {"i": i}, i + 0.5][i % 5], id="all_types"),
    ],
)
def test_unique_items_do_not_compare_all_pairs(item):
    schema = Schema({"type": "array", "uniqueItems": True, "items": True})

    def work(size):
        document = [item(i) for i in range(size)]
        return lambda: schema.check(document, "body")

    assert growth(work, 300) < SQUARE


def test_integers_that_a_set_would_take_for_one_are_spread():
    same = [(2**61 - 1) * i for i in range(1000)]
    assert len(set(map(hash, same))) == 1
    assert len({hash(identity(i)) for i in same}) > 990


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True),
        (0, -0.0, True),
        (0.0, -0.0, True),
        (1, True, False),
        (0, False, False),
        (1, "1", False),
        (None, "None", False),
        (True, "True", False),
        (2**53 + 1, float(2**53), False),
        (2**53, float(2**53), True),
        (10**400, 10**400 + 1, False),
        (10**30, 1e30, False),
        (int(1e30), 1e30, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1.0}, True),
        ({"a": [1, {"b": None}]}, {"a": [1.0, {"b": None}]}, True),
        ({"a": 1}, {"a": True}, False),
        ({}, [], False),
        ([], None, False),
        (["a", "b"], ["ab"], False),
        ([["a"], "b"], [["a", "b"]], False),
        (["1:a"], ["1", "a"], False),
        ([1, 2], [12], False),
        ("\ud800", "\ud801", False),
    ],
)
def test_unique_items_are_equal_as_json_has_it(one, other, equal):
    schema = {"type": "array", "uniqueItems": True}
    assert bool(refusal(schema, [one, "between", other])) is equal
    assert bool(refusal(schema, [[one], {"k": one}, {"k": other}])) is equal


def test_a_limit_of_length_is_asked_before_what_reads_the_value():
    schema = {"maxItems": 3, "uniqueItems": True, "contains": {"const": "b"}, "items": {"pattern": "^b"}}
    document = ["a"] * 20_000
    known = operations(lambda: (Schema(schema), Allowance(document)))
    assert operations(lambda: refusal(schema, document)) < known + 1000
    assert "too long" in refusal(schema, document)
    # exponential: the pattern must not see what maxLength refuses
    assert "too long" in refusal({"maxLength": 20, "pattern": "^(a+)+$"}, "a" * 5000 + "b")
    assert "too long" in refusal({"pattern": "^(a+)+$", "maxLength": 20}, "a" * 5000 + "b")
    many = {f"a{i}": 1 for i in range(5000)}
    assert "too many" in refusal(
        {"maxProperties": 3, "additionalProperties": False, "propertyNames": {"pattern": "^b"}}, many
    )


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf"])
def test_errors_below_alternatives_are_bounded(keyword):
    inner = {"type": "array", "items": {"type": "string"}}
    schema = Schema({keyword: [inner, {"type": "null"}]})

    def work(size):
        return lambda: refused(schema, list(range(size)))

    # what is left is a look at the size of the document
    assert operations(work(40 * MOST_ERRORS)) - operations(work(20 * MOST_ERRORS)) < 100 * MOST_ERRORS
    assert refusal(schema.document, [0, 1]) == "Invalid body at [0]: 0 is not of type 'string'"


def test_one_of_tells_when_several_fit():
    text = refusal({"oneOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 9}]}, 5)
    assert text.startswith("Invalid body: 5 is valid under more than one schema: ")
    assert refusal({"oneOf": [{"type": "integer"}, {"minimum": 3}]}, 1) == ""


@pytest.mark.parametrize(
    "schema",
    [
        {
            "anyOf": [
                {"items": {"$ref": "#"}, "type": "array"},
                {"items": {"$ref": "#"}, "maxItems": 9, "type": "array"},
            ]
        },
        {
            "oneOf": [
                {"items": {"$ref": "#"}, "type": "array"},
                {"items": {"$ref": "#"}, "maxItems": 9, "type": "array"},
            ]
        },
        {"if": {"items": {"$ref": "#"}}, "then": {"items": {"$ref": "#"}}, "type": "array"},
        {"allOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]},
        {"not": {"items": {"$ref": "#"}}, "contains": {"$ref": "#"}},
        {"unevaluatedItems": {"$ref": "#"}, "prefixItems": [{"$ref": "#"}], "contains": {"$ref": "#"}},
    ],
    ids="-".join,
)
def test_a_recursive_schema_has_an_allowance(schema):
    document: object = 5
    for _ in range(60):
        document = [document]
    compiled = Schema(schema)

    assert operations(lambda: refused(compiled, document)) < 1_500_000


def test_an_honest_document_never_meets_the_allowance():
    each = {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "tags": {"$ref": "#/$defs/tags"}},
        "required": ["id"],
    }
    tags = {"type": "array", "items": {"type": "string", "maxLength": 9}, "uniqueItems": True}
    schema = {"$defs": {"tags": tags}, "anyOf": [{"type": "array", "items": each}, {"type": "null"}]}
    assert refusal(schema, [{"id": i, "tags": ["a", "b", str(i)]} for i in range(5000)]) == ""


def test_the_allowance_grows_with_the_document():
    with pytest.raises(TooMuchWorkError):
        Allowance([]).spend(20_000)
    Allowance([0] * 2000).spend(20_000)


@pytest.mark.parametrize("keyword", ["unevaluatedProperties"])
def test_what_is_evaluated_is_not_searched_in_a_list(keyword):
    schema = {"allOf": [{"patternProperties": {"^x": {"type": "integer"}}}], keyword: False}

    def compared(size):
        document = {CountedText(f"x{i}"): i for i in range(size)}
        CountedText.compared = 0
        assert refusal(schema, document) == ""
        return CountedText.compared

    small, large = compared(200), compared(800)
    assert large <= SQUARE * max(small, 200)
    assert refusal(schema, {"x": 1, "y": 1}) == "Invalid body: Unevaluated properties: 'y'"


def test_unevaluated_items_are_found():
    schema = {"prefixItems": [True], "contains": {"type": "integer"}, "unevaluatedItems": False}
    assert refusal(schema, ["x", 1, 2]) == ""
    assert refusal(schema, ["x", 1, "y"]) == "Invalid body: Unevaluated items: 2"
    assert refusal({"prefixItems": [True], "unevaluatedItems": {"type": "string"}}, ["x", 1]) != ""
    assert refusal({"unevaluatedItems": False}, {"not": "an array"}) == ""


def test_a_schema_that_names_its_dialect_is_bounded_too():
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    inner = {**dialect, "$id": "https://example.org/inner", "type": "array", "uniqueItems": True}
    schema = Schema({**dialect, "properties": {"a": inner}})

    def work(size):
        document = {"a": [{"i": i} for i in range(size)]}
        return lambda: schema.check(document, "body")

    assert growth(work, 200) < SQUARE


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        ({"type": "integer"}, "x" * 100_000),
        ({"enum": [1]}, ["x" * 1000] * 100),
        ({"additionalProperties": False}, {"x" * 100_000: 1}),
        ({"additionalProperties": {"type": "integer"}}, {"x" * 100_000: "no"}),
        ({"patternProperties": {"x": {"additionalProperties": False}}}, {"x" * 100_000: {"y" * 100_000: 1}}),
        ({"propertyNames": {"maxLength": 3}}, {"x" * 100_000: 1}),
        ({"anyOf": [{"type": "integer"}]}, "x" * 100_000),
        ({"oneOf": [True, True]}, "x" * 100_000),
        ({"uniqueItems": True}, ["x" * 100_000] * 2),
        ({"unevaluatedProperties": False}, {"x" * 100_000: 1}),
    ],
)
def test_a_message_does_not_repeat_the_document(schema, document):
    assert 10 < len(refusal(schema, document)) < 500


@pytest.mark.parametrize(
    "text", ["a{99999999999999999999}", "(" * 5000, "(" * 900, "[a", "x" * 1001, "(?P<a>x)(?P<a>y)", "[[a]", "\\"]
)
def test_what_is_no_regular_expression_is_a_400(text):
    assert refusal({"format": "regex"}, text) != ""


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "1_0", " 1", "\u0661", "1" * 400 + ".0"])
def test_a_number_in_a_query_is_finite(text):
    with pytest.raises(faults.BadRequest):
        QuerySchema({"properties": {"x": {"type": "number", "multipleOf": 0.5}}}).read({"x": [text]})


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775809", "9" * 5000])
def test_an_integer_in_a_query_fits_in_64_bits(text):
    with pytest.raises(faults.BadRequest):
        QuerySchema({"properties": {"x": {"type": "integer"}}}).read({"x": [text]})


def test_numbers_in_a_query_are_read():
    schema = QuerySchema({"properties": {"x": {"type": "number"}, "y": {"type": "integer"}}})
    assert schema.read({"x": ["-2.5e1"], "y": ["-9223372036854775808"]}) == {"x": -25.0, "y": -(2**63)}


def test_others_get_their_turn_during_a_long_validation(monkeypatch):
    slept = []
    monkeypatch.setattr("apid.wsgi.validator.time.sleep", slept.append)
    Schema({"items": {"type": "integer"}}).check(json.loads("[" + "1," * 5000 + "1]"), "body")
    assert len(slept) >= 4


class CountedBytes(bytes):
    """Bytes that count what is copied out of them."""

    copied = 0

    def __getitem__(self, key):
        part = bytes.__getitem__(self, key)
        CountedBytes.copied += len(part)
        return CountedBytes(part)

    def __add__(self, other):
        whole = bytes.__add__(self, other)
        CountedBytes.copied += len(whole)
        return CountedBytes(whole)


@pytest.mark.parametrize(
    "read", [CountedInput.readline, lambda stream: stream.readline(7), lambda stream: stream.read(1)]
)
def test_a_body_of_short_lines_is_not_copied_for_each(read):
    def copied(size):
        body = CountedBytes(b"\n" * size)
        stream = CountedInput(io.BytesIO(body), size, faults.TooLarge)
        stream._kept = body
        CountedBytes.copied = 0
        while read(stream):
            pass
        return CountedBytes.copied

    assert copied(800) <= SQUARE * copied(200)


def test_a_body_that_comes_in_octets_is_not_copied_for_each():
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return CountedBytes(super().read(min(size, 1)))

    def copied(size):
        CountedBytes.copied = 0
        assert read_body({"CONTENT_LENGTH": str(size), "wsgi.input": Slow(b"x" * size)}) == b"x" * size
        return CountedBytes.copied

    assert copied(800) <= SQUARE * copied(200)


def quiet(work):
    """The same work; a refusal is an answer too."""

    def done():
        mediatypes.accepted.cache_clear()
        catalogue.preferred.cache_clear()
        with contextlib.suppress(faults.ApiError):
            return work()

    return done


def environ_of(size):
    server = {"wsgi.url_scheme": "http", "SERVER_NAME": "a", "SERVER_PORT": "80"}
    return {"REQUEST_METHOD": "GET", "PATH_INFO": "/" + "x" * size, **server}


def ignore(_status, _headers, _exc_info=None):
    """A start_response of nobody."""


def request(query):
    return Request({**environ_of(1), "QUERY_STRING": query})


def page(query):
    return Page.of(request(query), sort_keys=("a", "b"))


def made_router():
    mapper = APIMapper()
    for path in ("/", "/a", "/{x}", "/{x}/a", "/{x}/{y}", "/a/{x}/{y:[0-9]+}", "/rest/{rest:.*}", "/pair/{a}-{b}-{c}"):
        mapper.connect(path, path, controller=lambda _environ, _start_response: [])
    return Router(mapper)


router = made_router()
mounts = URLMap()
mounts["/"] = mounts["/a"] = mounts["/v2"] = router
health = Healthcheck(AppOptions())

HEADERS = {
    "Accept": lambda n: lambda: mediatypes.of({"PATH_INFO": "/", "HTTP_ACCEPT": "a/b;x=y," * n}),
    "Accept, quoted": lambda n: lambda: mediatypes.of({"PATH_INFO": "/", "HTTP_ACCEPT": 'a/b;x="' + "\\\\" * n}),
    "Accept, parameters": lambda n: lambda: mediatypes.of({"PATH_INFO": "/", "HTTP_ACCEPT": "a/b" + ";x=y" * n}),
    "Accept of the health check": lambda n: lambda: health({**environ_of(1), "HTTP_ACCEPT": "a/b;q=0.5," * n}, ignore),
    "Content-Type": lambda n: lambda: mediatypes.content_type("a/b" + ";x=y" * n),
    "Accept-Language": lambda n: lambda: catalogue.DEFAULT.translated("x", ",".join(f"a{i % 7}b" for i in range(n))),
    "microversion": lambda n: (
        lambda: Microversions("zoo", "1.0", "1.9").wanted({"HTTP_OPENSTACK_API_VERSION": "zoo 1.1," * n})
    ),
    "query string": lambda n: lambda: parse_query("&".join(f"a{i}=b" for i in range(n))),
    "query string, one name": lambda n: lambda: parse_query("a=b&" * n),
    "query schema": lambda n: (
        lambda: QuerySchema({"additionalProperties": False}).read({f"a{i}": ["b"] for i in range(n)})
    ),
    "sort keys": lambda n: lambda: page("sort_key=a&sort_dir=asc&" * n),
    "next page": lambda n: lambda: Page(1).links(request("&".join(f"a{i}=b" for i in range(n))), "1", 1),
    "If-Match": lambda n: lambda: _tags('"a",' * n),
    "path of slashes": lambda n: lambda: router({**environ_of(1), "PATH_INFO": "/" * n}, ignore),
    "path of segments": lambda n: lambda: router({**environ_of(1), "PATH_INFO": "/a" * n}, ignore),
    "path below a wildcard": lambda n: lambda: router({**environ_of(1), "PATH_INFO": "/rest/" + "a/" * n}, ignore),
    "path with separators": lambda n: lambda: router({**environ_of(1), "PATH_INFO": "/pair/" + "-" * n}, ignore),
    "slashes at urlmap": lambda n: lambda: mounts({**environ_of(1), "PATH_INFO": "/a" + "/" * n}, ignore),
    "version at urlmap": lambda n: lambda: mounts({**environ_of(1), "HTTP_ACCEPT": "a/b;version=2," * n}, ignore),
    "X-Roles": lambda n: (
        lambda: KeystoneContext(router, KeystoneOptions(require_authtoken=False))(
            {**environ_of(1), "HTTP_X_USER_ID": "u", "HTTP_X_ROLES": "a," * n}, ignore
        )
    ),
    "masked query": lambda n: lambda: masked("QUERY_STRING", "token=a&" * n),
    "keys of an object": lambda n: lambda: read_json(json.dumps(dict.fromkeys(map(str, range(n)))).encode()),
    "nested arrays": lambda n: lambda: read_json(b"[" * n),
    "repeated fields": lambda n: lambda: framing.combine([("Via", "x")] * n),
}
"""What a client sends, n times over, and who reads it."""


@pytest.mark.parametrize("name", HEADERS)
def test_reading_what_a_client_sends_grows_with_it(name):
    assert growth(lambda size: quiet(HEADERS[name](size)), 30) < SQUARE


def test_languages_that_are_looked_for_are_few(tmp_path):
    found = catalogue.preferred(",".join(f"a{chr(97 + i)}" for i in range(26)))
    assert len(found) == 10
    assert found[0] == "aa"


def test_a_sort_key_stands_once():
    with pytest.raises(faults.BadRequest, match="twice"):
        page("sort_key=a&sort_key=b&sort_key=a")


def test_a_long_name_of_a_user_is_not_a_key_of_the_storage():
    keys = []
    counts = RemoteCounts.__new__(RemoteCounts)
    counts._name, counts._items = "ratelimit", lambda *_args, **_kwargs: None

    class Window:
        def hit(self, _item, *key):
            keys.append(key)
            return True

        def get_window_stats(self, _item, *_key):
            return SimpleNamespace(reset_time=0, remaining=1)

    counts._window = Window()
    counts.charge(b"=" + b"x" * 100_000, [Limit.make("GET", "*", ".*", 1, "MINUTE")])
    counts.charge(b"=u", [Limit.make("GET", "*", ".*", 1, "MINUTE")])
    assert [len(key[2]) for key in keys] == [33, 2]
