"""T3: the index gives what Routes' own matcher gives, for route sets and paths that nobody chose.

Random routes from a small alphabet (so that they collide), random paths that are often instances of them; the answer of
`RouteIndex.find` must be the answer of `mapper.routematch`: the same variables by the same route.
"""

from __future__ import annotations

import re

import pytest
import routes
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apid.wsgi.mapper import APIMapper, ProjectMapper
from apid.wsgi.routeindex import RouteIndex

WORDS = ["a", "b", "foo", "foobar", "v1", "x.y", "é", "list"]
REQUIREMENTS = [
    r"\d+",
    r"[0-9a-f-]+",
    "[a-z]+",
    ".*",
    ".+",
    r"[^/]+",
    r"[^/.]+",
    "a|b",
    "(?:foo|a)b?",
    r"\w*",
    "[+-9]+",
    r"\S+",
    "json|xml",
]
METHODS = ["GET", "POST", "PUT", "DELETE"]


def only_foo(environ, variables):
    return "foo" in environ["PATH_INFO"]


def refuses(environ, variables):
    variables["seen"] = True
    return False


@st.composite
def condition_sets(draw):
    """Conditions of a route: methods, a function, sub-domains; mostly none."""
    conditions = {}
    if draw(st.integers(0, 2)) == 0:
        conditions["method"] = draw(st.lists(st.sampled_from(METHODS), min_size=1, max_size=2))
    if draw(st.integers(0, 5)) == 0:
        conditions["function"] = draw(st.sampled_from([only_foo, refuses]))
    if draw(st.integers(0, 5)) == 0:
        conditions["sub_domain"] = draw(st.sampled_from([True, False, ["www", "api"]]))
    return conditions


@st.composite
def route_sets(draw):
    """Arguments of connect(): a path of literal and variable pieces, defaults, requirements, conditions."""
    found = []
    for number in range(draw(st.integers(1, 12))):
        names = iter(["id", "p", "q", "r", "s", "t", "u", "w"])
        path, requirements, defaults = "", {}, {"controller": f"c{number}"}
        for _ in range(draw(st.integers(0, 4))):
            path += "/"
            for kind in draw(st.lists(st.sampled_from(["word", "var", "var", "dot", "star"]), min_size=0, max_size=2)):
                if kind == "word":
                    path += draw(st.sampled_from(WORDS))
                    continue
                name = next(names)
                path += {"var": "{%s}", "dot": "{.%s}", "star": "{%s:.*}"}[kind] % name
                if kind == "var" and draw(st.booleans()):
                    requirements[name] = draw(st.sampled_from(REQUIREMENTS))
                if draw(st.integers(0, 4)) == 0:
                    defaults[name] = draw(st.sampled_from(["dflt", None]))
        options = dict(defaults)
        if requirements:
            options["requirements"] = requirements
        conditions = draw(condition_sets())
        if conditions:
            options["conditions"] = conditions
        if draw(st.integers(0, 5)) == 0:
            options["_minimize"] = True
        if draw(st.integers(0, 5)) == 0 and path.startswith("/"):
            path = path[1:]  # Routes takes a path without its slash; it matches only when minimized
        found.append((path or "/", options))
    return found


@st.composite
def paths(draw, table):
    """An instance of one of the routes, or a path made of the same words."""
    if draw(st.booleans()):
        pieces = draw(st.lists(st.sampled_from([*WORDS, "42", "", ".", "a.json", "a\nb", "ü"]), max_size=5))
        return "/" + "/".join(pieces)
    path, _ = draw(st.sampled_from(table))
    fill = st.sampled_from(["42", "a", "ab", "foo", "a/b", "", "x.y", "json", "dflt", "é", "a\nb", "/"])
    path = re.sub(r"\{[^}]*\}", lambda _: draw(fill), path)
    if draw(st.integers(0, 4)) == 0:
        path += draw(st.sampled_from(["/", ".json", "/a", ""]))
    return path


def mapper_of(table, factory=routes.Mapper, **attributes):
    mapper = factory(controller_scan=None, register=False)
    for name, value in attributes.items():
        setattr(mapper, name, value)
    for path, options in table:
        mapper.connect(
            path, **{key: dict(value) if isinstance(value, dict) else value for key, value in options.items()}
        )
    try:
        mapper.create_regs([])
    except re.error:
        assume(False)
    return mapper


def same(mapper, index, path, environ):
    expected = mapper.routematch(path, dict(environ))
    found = index.find(path, environ["REQUEST_METHOD"], dict(environ))
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found[0] == expected[0]
        assert found[1] is expected[1]


@settings(max_examples=150, deadline=None)
@given(
    st.data(),
    route_sets(),
    st.sampled_from([*METHODS, "HEAD", "PATCH"]),
    st.sampled_from(["", "example.org", "www.example.org"]),
)
def test_same_answer_as_routes(data, table, method, host):
    attributes = {"sub_domains": data.draw(st.booleans(), label="sub_domains")}
    mapper = mapper_of(table, **attributes)
    index = RouteIndex(mapper)
    for _ in range(6):
        path = data.draw(paths(table), label="path")
        if path.endswith("\n"):
            continue
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path}
        if host:
            environ["HTTP_HOST"] = host
        same(mapper, index, path, environ)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(st.sampled_from(["animal", "plant", "rock"]), min_size=1, max_size=3, unique=True))
def test_same_answer_for_resources_and_submappers(data, nouns):
    mapper = data.draw(st.sampled_from([APIMapper, ProjectMapper, routes.Mapper]))(controller_scan=None, register=False)
    for noun in nouns:
        mapper.resource(noun, noun + "s", controller=noun, collection={"detail": "GET"}, member={"action": "POST"})
        with mapper.submapper(path_prefix=f"/sub/{noun}", controller=noun) as sub:
            sub.connect(None, "/{id}/x", action="x")
            sub.connect(None, "/fixed", action="y", conditions={"method": ["GET"]})
        mapper.collection(noun + "_c", noun + "_r", path_prefix=f"/coll/{noun}", controller=noun)
    mapper.redirect("/old/{url:.*}", "/new/{url}")
    mapper.connect("/wild/*rest", controller="w")
    mapper.create_regs([])
    index = RouteIndex(mapper)
    known = [
        re.sub(r"[:*]\(?(\w+)\)?|\{[^}]*\}", "42", route.routepath) for route in mapper.matchlist if not route.static
    ]
    for _ in range(10):
        path = data.draw(st.sampled_from(known), label="path")
        path = data.draw(st.sampled_from([path, "/" + path, path.replace("42", "a-b", 1), path + "/", path + ".json"]))
        method = data.draw(st.sampled_from(METHODS))
        same(mapper, index, path, {"REQUEST_METHOD": method, "PATH_INFO": path})


@pytest.mark.parametrize(
    ("first", "second"), [("/{b}/x", "/foo/{b}"), ("/foo/{b:.*}", "/foo/x{b:.*}")], ids=["segments", "wildcards"]
)
def test_longest_static_prefix_wins_over_the_order_of_connect(first, second):
    mapper = mapper_of([(first, {"controller": "first"}), (second, {"controller": "second"})])
    found = RouteIndex(mapper).find("/foo/x", "GET", {"REQUEST_METHOD": "GET"})
    assert found[0]["controller"] == "second"
    same(mapper, RouteIndex(mapper), "/foo/x", {"REQUEST_METHOD": "GET"})


def test_a_variable_takes_at_least_one_character():
    index = RouteIndex(mapper_of([("/{id}", {"controller": "c"}), ("/a/{id}/b", {"controller": "c"})]))
    for path in ("/", "/a//b", ""):
        assert index.find(path, "GET", {"REQUEST_METHOD": "GET"}) is None


def test_a_minimized_route_is_sought_under_its_static_prefix_only():
    mapper = mapper_of([("/foo.{fmt}", {"controller": "c", "fmt": "x", "_minimize": True})])
    assert mapper.matchlist[0].match("/foo") == {"controller": "c", "fmt": "x"}  # the route would, Routes never asks it
    assert mapper.routematch("/foo", {"REQUEST_METHOD": "GET"}) is None
    assert RouteIndex(mapper).find("/foo", "GET", {"REQUEST_METHOD": "GET"}) is None


def test_a_mapper_with_a_prefix_is_asked_itself():
    mapper = mapper_of([("/a/{id}", {"controller": "c", "conditions": {"method": ["GET"]}})], prefix="/api")
    index = RouteIndex(mapper)
    assert index.find("/api/a/7", "GET", {"REQUEST_METHOD": "GET"})[0]["id"] == "7"
    assert index.find("/a/7", "GET", {"REQUEST_METHOD": "GET"}) is None
    assert index.allowed("/api/a/7", {}) == {"GET"}


def test_routes_connected_later_are_found():
    mapper = mapper_of([("/a", {"controller": "c"})])
    index = RouteIndex(mapper)
    assert index.find("/b", "GET", {"REQUEST_METHOD": "GET"}) is None
    mapper.connect("/b", controller="d")
    assert index.find("/b", "GET", {"REQUEST_METHOD": "GET"})[0] == {"controller": "d"}


@pytest.mark.parametrize("path", ["/i/42\n", "/plain\n", "/w/a\n"])
def test_a_trailing_newline_is_not_let_through(path):
    mapper = mapper_of(
        [(r"/i/{id:\d+}", {"controller": "c"}), ("/plain", {"controller": "c"}), ("/w/*rest", {"controller": "c"})]
    )
    assert mapper.routematch(path, {"REQUEST_METHOD": "GET"}) is not None  # Routes' $ lets it pass
    index = RouteIndex(mapper)
    assert index.find(path, "GET", {"REQUEST_METHOD": "GET"}) is None
    assert index.allowed(path, {"REQUEST_METHOD": "GET"}) == set()


def test_a_method_condition_given_as_text_is_no_substring_test():
    mapper = mapper_of([("/a", {"controller": "c", "conditions": {"method": "GET"}})])
    assert mapper.routematch("/a", {"REQUEST_METHOD": "ET"}) is not None  # Routes: "ET" in "GET"
    index = RouteIndex(mapper)
    assert index.find("/a", "ET", {"REQUEST_METHOD": "ET"}) is None
    assert index.find("/a", "GET", {"REQUEST_METHOD": "GET"}) is not None


def test_a_thousand_routes_ask_as_few_as_five():
    def index(size):
        """4 * size routes, all below one project: the bucket in which Routes asks one after the other."""
        mapper = routes.Mapper(controller_scan=None, register=False)
        for number in range(size):
            for path in ("", "/{id}", "/{id}.{format}", ".{format}"):
                mapper.connect(f"/v2/{{tenant}}/res{number}{path}", controller="c", conditions={"method": ["GET"]})
        return RouteIndex(mapper)

    few, many = index(5), index(250)
    for path in ("/v2/t/res3", "/v2/t/res3/9", "/v2/t/nope/9", "/nope"):
        assert len(many._candidates(path.split("/"))) == len(few._candidates(path.split("/"))) <= 3
