"""Routes as an author declares them: tables, redirects, sub-domains, conditions."""

from __future__ import annotations

import pytest

from apid.wsgi.resource import Resource
from apid.wsgi.router import Router
from apid.wsgi.testing import Client
from tests.wsgi.zoo import Zoo


class TestTable:
    def test_a_method_that_is_missing(self):
        class C: ...

        class API(Router):
            ROUTES = {"/a": {"GET": (C, "index")}}

        with pytest.raises(ValueError, match=r"API.ROUTES, GET /a: C has no index\(\)"):
            API()

    def test_a_method_in_small_letters(self):
        class API(Router):
            ROUTES = {"/a": {"get": Zoo()}}

        with pytest.raises(ValueError, match="capitals"):
            API()

    def test_a_target_that_is_none(self):
        class API(Router):
            ROUTES = {"/a": {"GET": "index"}}

        with pytest.raises(TypeError, match="got 'index'"):
            API()

    def test_a_mapper_route_without_an_application(self):
        import routes

        mapper = routes.Mapper(controller_scan=None, register=False)
        mapper.connect("/a", controller="nobody")
        with pytest.raises(ValueError, match="nobody"):
            Router(mapper)

    def test_routes_for_check_config(self):
        rows = Zoo().apid_routes()
        assert rows[0] == (("GET",), "/animals", "Animals.index")
        assert (("DELETE",), "/animals/{id}", "Animals.delete") in rows


class TestRedirects:
    @pytest.fixture
    def client(self):
        import routes

        mapper = routes.Mapper(controller_scan=None, register=False)
        mapper.redirect("/old/{url:.*}", "/new/{url}")
        mapper.redirect("/gone", "/new/", _redirect_code="301 Moved Permanently")
        mapper.redirect("/away", "https://example.org/x")
        mapper.redirect("/open{url:.*}", "{url}")
        return Client(Router(mapper), environ={"SCRIPT_NAME": "/v1"})

    @pytest.mark.parametrize(
        ("path", "code", "location"),
        [
            ("/old/a/b", 302, "http://localhost/v1/new/a/b"),
            ("/gone", 301, "http://localhost/v1/new/"),
            ("/away", 302, "https://example.org/x"),
            ("/old/%0dSet-Cookie:%20x", 302, "http://localhost/v1/new/%0DSet-Cookie%3A%20x"),
            ("/old//evil.example/", 302, "http://localhost/v1/new//evil.example/"),
        ],
    )
    def test_location(self, client, path, code, location):
        answer = client.get(path)
        assert (answer.code, answer.headers["Location"]) == (code, location)

    def test_a_path_cannot_become_another_host(self):
        import routes

        mapper = routes.Mapper(controller_scan=None, register=False)
        mapper.redirect("/open{url:.*}", "{url}")
        location = Client(Router(mapper)).get("/open//evil.example/").headers["Location"]
        assert location == "http://localhost/evil.example/"


def test_sub_domains_and_named_urls():
    import routes

    class Where:
        def show(self, req, sub_domain):
            return {"sub": sub_domain, "url": req.url_for("site", qualified=False)}

    mapper = routes.Mapper(controller_scan=None, register=False)
    mapper.sub_domains = True
    mapper.connect("site", "/where", controller=Resource(Where()), action="show", conditions={"sub_domain": True})
    client = Client(Router(mapper))
    assert client.get("/where", headers={"Host": "api.example.org"}).json["sub"] == "api"
    assert client.get("/where", headers={"Host": "example.org"}).code == 404


def test_cookie_and_function_conditions():
    import routes

    class Who:
        def show(self, req, user):
            return {"user": user}

    def logged_in(environ, variables):
        variables["user"] = environ.get("HTTP_COOKIE", "").removeprefix("user=")
        return bool(variables["user"])

    mapper = routes.Mapper(controller_scan=None, register=False)
    mapper.connect(
        "/who", controller=Resource(Who()), action="show", conditions={"function": logged_in, "method": ["GET"]}
    )
    client = Client(Router(mapper))
    assert client.get("/who", headers={"Cookie": "user=ann"}).json == {"user": "ann"}
    assert client.get("/who").code == 404
    assert client.head("/who", headers={"Cookie": "user=ann"}).code == 200
    assert client.post("/who", headers={"Cookie": "user=ann"}).code == 405


def test_a_controller_named_by_the_path():
    class API(Router):
        controllers = {"zoo": Zoo(), "plain": Zoo()}

        def __init__(self):
            import routes

            mapper = routes.Mapper(controller_scan=None, register=False)
            mapper.connect("/c/{controller}/{path_info:.*}")
            super().__init__(mapper)

    client = Client(API())
    assert client.get("/c/zoo/plain").body == b"/c/zoo|/plain"
    assert client.get("/c/nope/plain").code == 404


def test_the_prototype_shape():
    """`class API(Router)` with its own mapper in the constructor, and `factory` for Paste: the original prototype."""
    import routes

    class Controller:
        def index(self, req):
            return {"versions": "0.1"}

    class API(Router):
        def __init__(self, mapper=None):
            if mapper is None:
                mapper = routes.Mapper()
            mapper.connect("/", controller=Resource(Controller()), action="index")
            super().__init__(mapper)

    client = Client(API.factory({"here": "/"}, any="thing"))
    assert client.get("/").json == {"versions": "0.1"}
    assert client.get("/?_method=DELETE").code == 200  # RoutesMiddleware would have believed it
