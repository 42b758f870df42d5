"""A validation works in proportion to its document, whatever the schema: operations are counted, for one size and for four."""

from __future__ import annotations

import json

import pytest

from apid.api.schemas import animals
from apid.wsgi import faults
from apid.wsgi.validation import QuerySchema, Schema
from apid.wsgi.validator import MOST_ERRORS, Allowance, TooMuchWorkError, identity
from tests.support.operations import SQUARE, CountedText, growth, operations


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


def test_a_document_that_holds_itself_has_an_end():
    document: list[object] = []
    document += [document, document]
    assert refusal({"items": {"$ref": "#"}}, document) != ""
    assert refusal({"uniqueItems": True}, document) != ""


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


@pytest.mark.parametrize(("name", "wrap"), [("PATCH", lambda tags: {"tags": tags}), ("CREATE_1_1", None)])
def test_the_tags_of_the_default_api(name, wrap):
    """The bodies that held a worker for seconds: many tags of many types."""
    schema = Schema(getattr(animals, name))

    def work(size):
        tags = [i if i % 2 else [str(i)] for i in range(size)]
        body = wrap(tags) if wrap else {"animal": {"name": "a", "species": "b", "tags": tags}}
        assert refused(schema, body) != ""
        return lambda: refused(schema, body)

    assert growth(work, 300) < SQUARE
