"""Resource and router, from a request to an answer."""

from __future__ import annotations

import logging

import pytest

from apid.wsgi import context
from apid.wsgi.controller import window
from apid.wsgi.resource import Resource
from apid.wsgi.router import Router
from apid.wsgi.testing import Client
from tests.wsgi.zoo import Zoo


def test_create_says_201_and_location(zoo):
    answer = zoo.post("/animals", json={"animal": {"name": "Rex", "legs": 4}})
    assert answer.code == 201
    assert answer.headers["Location"] == "/animals/7"
    assert answer.json == {"animal": {"name": "Rex", "legs": 4}}


def test_delete_says_204_and_nothing(zoo):
    answer = zoo.delete("/animals/7")
    assert (answer.code, answer.body) == (204, b"")
    assert "Content-Length" not in answer.headers


def test_variables_are_utf8(zoo):
    assert zoo.put("/animals/%C3%A9t%C3%A9", json=1).json["id"] == "été"


def test_head_has_the_head_of_get(zoo):
    head, get = zoo.head("/animals"), zoo.get("/animals")
    assert (head.code, head.body) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.body))


@pytest.mark.parametrize(
    ("path", "allow"), [("/animals", "GET, HEAD, OPTIONS, POST"), ("/plain", "GET, HEAD, OPTIONS")]
)
def test_options_and_405(zoo, path, allow):
    answer = zoo.options(path)
    assert (answer.code, answer.headers["Allow"]) == (204, allow)
    answer = zoo.patch(path)
    assert (answer.code, answer.headers["Allow"]) == (405, allow)
    assert answer.fault["code"] == 405


def test_options_star(zoo):
    assert "DELETE" in Client(Zoo(), validate=False).options("*").headers["Allow"]


def test_head_of_a_generator_starts_its_answer(zoo):
    answer = zoo.head("/plain")
    assert (answer.code, answer.body, answer.headers["Content-Type"]) == (200, b"", "text/plain")


@pytest.mark.parametrize(
    ("path", "rest"),
    [("/below/a/b", "/below|/a/b"), ("/below/%C3%A9", "/below|/\xc3\xa9")],
)
def test_path_info_is_shifted(zoo, path, rest):
    assert zoo.get(path).body.decode("latin-1") == rest


def test_actions_by_their_key(zoo):
    answer = zoo.post("/animals/7/action", json={"feed": {"hay": 2}})
    assert (answer.code, answer.json) == (202, {"fed": "7", "with": {"hay": 2}})
    assert zoo.post("/animals/7/action", json={"feed": None}).json["with"] is None


@pytest.mark.parametrize(
    "body", [{}, {"feed": {}, "adopt": {}}, [], "feed", None, {"nope": {}}, {"adopt": {}}, {"show": {}}]
)
def test_other_keys_are_400(zoo, body):
    assert zoo.post("/animals/7/action", json=body).code == 400


def test_query_schema(zoo):
    query = zoo.get("/animals?legs=4&tame=yes&kind=a&kind=b&weight=1.5").json["query"]
    assert query == {"legs": 4, "tame": True, "kind": ["a", "b"], "weight": 1.5}
    assert zoo.get("/animals").json["query"] == {"tame": False}
    assert zoo.get("/animals?legs=1&legs=2").json["query"]["legs"] == 2


@pytest.mark.parametrize(
    "query",
    [
        "legs=x",
        "tame=perhaps",
        "kind=1&kind=2&kind=3",
        "nope=1",
        "weight=heavy",
        "legs=1e3",
        "legs=99999999999999999999999",
    ],
)
def test_query_that_does_not_fit(zoo, query):
    answer = zoo.get(f"/animals?{query}")
    assert answer.code == 400
    assert "query string" in answer.fault["message"]


def test_body_that_does_not_fit_names_the_place(zoo):
    answer = zoo.post("/animals", json={"animal": {"name": "Rex", "legs": -4}})
    assert answer.code == 400
    assert answer.fault["message"] == "Invalid body at animal.legs: -4 is less than the minimum of 0"


class TestMicroversions:
    def test_every_answer_says_the_version(self, zoo):
        for path in ("/animals", "/nope", "/odd/bug", "/odd/ours"):
            answer = zoo.get(path)
            assert answer.headers["OpenStack-API-Version"] == "zoo 1.1"
            assert answer.headers["X-OpenStack-Zoo-API-Version"] == "1.1"
            assert "OpenStack-API-Version" in answer.headers["Vary"]

    @pytest.mark.parametrize(
        ("headers", "version", "since"),
        [
            ({}, "1.1", "1.1"),
            ({"OpenStack-API-Version": "zoo 1.2"}, "1.2", "1.2"),
            ({"OpenStack-API-Version": "compute 2.7, zoo 1.1, zoo 1.3"}, "1.3", "1.2"),
            ({"OpenStack-API-Version": "zoo latest"}, "1.3", "1.2"),
            ({"OpenStack-API-Version": "compute 9.9"}, "1.1", "1.1"),
            ({"X-OpenStack-Zoo-API-Version": "1.2"}, "1.2", "1.2"),
            ({"X-OpenStack-Zoo-API-Version": "1.2", "OpenStack-API-Version": "zoo 1.1"}, "1.1", "1.1"),
        ],
    )
    def test_window(self, zoo, headers, version, since):
        answer = zoo.get("/animals/7", headers=headers)
        assert answer.headers["OpenStack-API-Version"] == f"zoo {version}"
        assert answer.json["animal"]["since"] == since

    @pytest.mark.parametrize(
        "text", ["1", "1.01", "1.x", "x", "-1.1", "1.1.1", "0.9", "", "\u0661.\u0661", "1." + "9" * 99]
    )
    def test_malformed_is_400(self, zoo, text):
        assert zoo.get("/animals/7", headers={"OpenStack-API-Version": f"zoo {text}"}).code == 400

    @pytest.mark.parametrize("text", ["1.0", "1.4", "2.0"])
    def test_out_of_range_is_406_with_the_range(self, zoo, text):
        answer = zoo.get("/animals/7", headers={"OpenStack-API-Version": f"zoo {text}"})
        assert answer.code == 406
        (error,) = answer.json["errors"]
        assert (error["min_version"], error["max_version"], error["status"]) == ("1.1", "1.3", 406)

    def test_a_method_outside_its_window_is_404(self):
        class Late:
            @window("1.3")
            def index(self, req):
                return {}

        class API(Zoo):
            ROUTES = {"/late": {"GET": (Late, "index")}}

        client = Client(API())
        assert client.get("/late").code == 404
        assert client.get("/late", headers={"OpenStack-API-Version": "zoo 1.3"}).code == 200

    def test_windows_that_meet_are_refused_at_import(self):
        with pytest.raises(ValueError, match="two methods claim"):

            class Bad:
                @window("1.1", "1.3")
                def index(self, req): ...

                @window("1.2")
                def index(self, req): ...  # noqa: F811  (the point of the test)


class TestFaults:
    @pytest.mark.parametrize(
        ("name", "code", "key", "message"),
        [
            ("ours", 409, "conflictingRequest", "Somebody was faster."),
            ("webob_error", 403, "forbidden", "Not for you."),
            ("declared", 404, "itemNotFound", "as declared"),
            ("forbidden", 403, "forbidden", "Access was denied to this resource."),
            ("safe", 409, "conflictingRequest", "RuntimeError: for your eyes"),
            ("unsafe", 409, "conflictingRequest", "There was a conflict when trying to complete your request."),
        ],
    )
    def test_table(self, zoo, name, code, key, message):
        answer = zoo.get(f"/odd/{name}")
        assert answer.code == code
        assert answer.json[key]["code"] == code
        assert answer.json[key]["message"] == message
        assert answer.json[key]["request_id"] == answer.headers["X-Openstack-Request-Id"]
        assert answer.headers["Content-Type"] == "application/json; charset=UTF-8"

    @pytest.mark.parametrize("name", ["bug", "coded", "upstream", "type_error", "nan", "unserializable", "recursion"])
    def test_a_bug_is_500_without_details_and_with_a_traceback_in_the_log(self, zoo, name, caplog):
        with caplog.at_level(logging.ERROR):
            answer = zoo.get(f"/odd/{name}")
        assert answer.code == 500
        fault = answer.json["computeFault"]
        assert fault["message"] == "The server has either erred or is incapable of performing the requested operation."
        assert b"secret" not in answer.body
        (record,) = caplog.records
        assert fault["request_id"] in record.getMessage()
        assert record.exc_info is not None

    def test_an_undeclared_error_is_500_and_names_its_class(self, zoo):
        answer = zoo.get("/odd/undeclared")
        assert (answer.code, answer.fault["message"]) == (500, "Unexpected API error (Conflict). Please report it.")

    def test_rate_limit(self, zoo):
        answer = zoo.get("/odd/limited")
        assert (answer.code, answer.headers["Retry-After"]) == (429, "13")
        assert answer.json["overLimit"]["retryAfter"] == "13"
        assert answer.json["overLimit"]["details"] == "Only 3 GET requests a minute."

    def test_a_header_cannot_break_out_of_its_line(self, zoo):
        answer = zoo.get("/odd/lines")
        assert "Set-Cookie" not in answer.headers
        assert answer.headers["X-A"] == "1  Set-Cookie: stolen=1"

    def test_nor_can_one_of_a_response_object(self, zoo):
        headers = zoo.get("/odd/located").headers
        assert headers["Location"] == "/x  Set-Cookie: stolen=1"
        assert (headers["X-Number"], headers["X-Wide"]) == ("7", "?")

    def test_a_webob_response_passes_through(self, zoo):
        answer = zoo.get("/odd/webob_response")
        assert (answer.code, answer.body) == (299, b"plain")


def test_a_project_in_the_path_must_be_that_of_the_token():
    class Things:
        def index(self, req, project_id):
            return {"project": project_id}

    class API(Router):
        ROUTES = {"/{project_id}/things": {"GET": (Things, "index")}}

    client = Client(API(), environ={context.KEY: context.Context(user_id="u", project_id="p1")})
    assert client.get("/p1/things").json == {"project": "p1"}
    assert client.get("/p2/things").code == 400


def test_req_context_names_nobody_without_a_filter():
    class Who:
        def show(self, req):
            return {"user": req.context.user_id, "id": req.context.request_id, "roles": req.context.roles}

    class API(Router):
        ROUTES = {"/": {"GET": (Who, "show")}}

    answer = Client(API(), environ={"apid.request_id": "req-1"}).get("/")
    assert answer.json == {"user": None, "id": "req-1", "roles": []}


def test_serializers_by_media_type():
    class Things:
        def index(self, req):
            return {"a": [1]}

        def create(self, req, body):
            return {"got": body}

    resource = Resource(
        Things(),
        serializers={"application/x-repr": lambda d: repr(d).encode()},
        deserializers={"application/x-upper": lambda b: b.decode().lower()},
    )

    class API(Router):
        ROUTES = {"/t{.format:x-repr|json}": {"GET": (resource, "index")}, "/n": {"POST": resource}}

        def make_resource(self, controller):
            return controller

    import routes

    mapper = routes.Mapper(controller_scan=None, register=False)
    mapper.connect("/t", controller=resource, action="index")
    mapper.connect("/t.x-repr", controller=resource, action="index")
    mapper.connect("/n", controller=resource, action="create")
    client = Client(Router(mapper))
    assert client.get("/t").headers["Content-Type"] == "application/json"
    assert client.get("/t", headers={"Accept": "application/x-repr"}).body == b"{'a': [1]}"
    assert client.get("/t", headers={"Accept": "application/x-repr;q=0.1, application/json;q=0.2"}).json == {"a": [1]}
    assert client.get("/t.x-repr").body == b"{'a': [1]}"
    assert client.post("/n", body=b"ABC", headers={"Content-Type": "application/x-upper"}).json == {"got": "abc"}
