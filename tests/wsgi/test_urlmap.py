"""urlmap: prefixes, domains, ports, and nova's choice of a version by media type; pipelines chosen by an option."""

from __future__ import annotations

import pytest

from apid.wsgi import pipeline
from apid.wsgi.testing import Client
from apid.wsgi.urlmap import Mount, URLMap, factory, parse_expression


def named(name):
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{name} {environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode("latin-1")]

    return application


def mapped(*expressions):
    urlmap = URLMap()
    for expression in expressions:
        urlmap[expression] = named(expression)
    return Client(urlmap)


def said(client, target, **headers):
    return client.get(target, headers={name.replace("_", "-"): value for name, value in headers.items()}).body.decode(
        "latin-1"
    )


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/", Mount("", "", "", False)),
        ("/v1", Mount("", "", "/v1", False)),
        ("/v1/", Mount("", "", "/v1", False)),
        ("/v1/+", Mount("", "", "/v1", True)),
        ("domain a.example /x", Mount("a.example", "", "/x", False)),
        ("domain A.Example:81", Mount("a.example", "81", "", False)),
        ("domain a port 80 /x", Mount("a", "80", "/x", False)),
        ("port 80 /x", Mount("", "80", "/x", False)),
        ("domain [::1]:80 /x", Mount("[::1]", "80", "/x", False)),
        ("http://a.example:81/x", Mount("a.example", "81", "/x", False)),
        ("http://a.example", Mount("a.example", "", "", False)),
        ("http://[::1]:81/x", Mount("[::1]", "81", "/x", False)),
    ],
)
def test_expressions(text, mount):
    assert parse_expression(text) == mount


@pytest.mark.parametrize("text", ["v1", "domain a port x /", "domain a b /x", "port /x", "http://a:99999999/x"])
def test_expressions_that_are_none(text):
    with pytest.raises(ValueError, match="urlmap"):
        parse_expression(text)


def test_the_longest_prefix_wins_and_is_cut():
    client = mapped("/", "/v1", "/v1/deep", "/v10")
    assert said(client, "/v1") == "/v1 /v1|"
    assert said(client, "/v1/a") == "/v1 /v1|/a"
    assert said(client, "/v1/deep/b") == "/v1/deep /v1/deep|/b"
    assert said(client, "/v10") == "/v10 /v10|"
    assert said(client, "/v100") == "/ |/v100"
    assert said(client, "/") == "/ |/"


def test_slashes_are_collapsed():
    client = mapped("/", "/v1/x")
    assert said(client, "//v1///x//y") == "/v1/x /v1/x|/y"


def test_plus_wants_something_after_the_slash():
    client = mapped("/", "/x/+")
    assert said(client, "/x") == "/ |/x"
    assert said(client, "/x/") == "/ |/x/"
    assert said(client, "/x/y") == "/x/+ /x|/y"


def test_plus_goes_before_the_same_path_without_it():
    client = mapped("/x", "/x/+")
    assert said(client, "/x/y") == "/x/+ /x|/y"
    assert said(client, "/x/") == "/x /x|/"


def test_domains_and_ports():
    client = mapped("/", "domain a.example /", "domain a.example port 81 /", "port 82 /x", "domain [::1] /six")
    assert said(client, "/", host="b.example") == "/ |/"
    assert said(client, "/", host="A.example") == "domain a.example / |/"
    assert said(client, "/", host="a.example:81") == "domain a.example port 81 / |/"
    assert said(client, "/x", host="q:82") == "port 82 /x /x|"
    assert said(client, "/six", host="[::1]:8080") == "domain [::1] /six /six|"


@pytest.mark.parametrize(
    "accept", ["application/json;version=2", "text/html;q=0.5, application/vnd.x+json;version=2;q=0.9"]
)
def test_accept_chooses_a_version(accept):
    client = mapped("/", "/v1", "/v2")
    assert said(client, "/things", accept=accept) == "/v2 /v2|/things"
    assert said(client, "/v1/things", accept=accept) == "/v1 /v1|/things"  # the address says more than the header


def test_content_type_goes_before_accept():
    client = mapped("/", "/v1", "/v2")
    headers = {"Content-Type": "application/json;version=1", "Accept": "application/json;version=2"}
    assert client.post("/things", body=b"", headers=headers).body == b"/v1 /v1|/things"


@pytest.mark.parametrize("version", ["9", "2/../x", "", "\xff", '"'])
def test_a_version_that_is_not_mounted_changes_nothing(version):
    assert said(mapped("/", "/v2"), "/things", accept=f"application/json;version={version}") == "/ |/things"


def test_without_a_root_it_is_a_json_404():
    answer = mapped("/v1").get("/nope")
    assert (answer.code, answer.fault["code"]) == (404, 404)
    assert said(mapped("/v1"), "/x", accept="a/b;version=1") == "/v1 /v1|/x"


def test_twice_is_an_error():
    urlmap = URLMap()
    urlmap["/a"] = named("a")
    with pytest.raises(ValueError, match="twice"):
        urlmap["/a/"] = named("b")


@pytest.mark.parametrize("host", ["", "[", "[::1", "a:b:c", ":", "\xff"])
def test_odd_hosts(host):
    assert said(mapped("/", "domain b /"), "/", host=host).startswith("/ ")


class Loader:
    """What Paste gives a composite factory, with names for applications and filters."""

    def get_app(self, name, global_conf=None):
        return named(name)

    def get_filter(self, name, global_conf=None):
        def wrap(application):
            def call(environ, start_response):
                environ["trace"] = environ.get("trace", "") + name
                body = application(environ, start_response)
                return [environ["trace"].encode() + b">" + b"".join(body)]

            return call

        return wrap


def test_not_found_app():
    local = Client(factory(Loader(), {}, not_found_app="nf", **{"/v1": "one"}))
    assert local.get("/x").body == b"nf |/x"
    assert local.get("/v1").body == b"one /v1|"
    assert Client(factory(Loader(), {"not_found_app": "g"}, **{"/v1": "one"})).get("/x").body == b"g |/x"


CONF = {"noauth": "a b app", "keystone": "k app", "keystone_nolimit": "n app"}


@pytest.mark.parametrize(
    ("global_conf", "local_conf", "start"),
    [
        ({}, {}, b"ab>"),
        ({"auth_strategy": "keystone"}, {}, b"k>"),
        ({"auth_strategy": "keystone"}, {"auth_strategy": "noauth"}, b"ab>"),
        ({}, {"auth_strategy": "keystone", "rate_limit": "false"}, b"n>"),
        ({"api_rate_limit": "False"}, {"auth_strategy": "keystone"}, b"n>"),
        ({"api_rate_limit": "False"}, {"auth_strategy": "noauth"}, b"ab>"),
    ],
)
def test_pipeline_by_auth_strategy(global_conf, local_conf, start):
    application = pipeline.pipeline_factory(Loader(), global_conf, **CONF, **local_conf)
    assert Client(application).get("/").body.startswith(start)


def test_pipeline_of_a_strategy_that_is_not_there():
    with pytest.raises(
        ValueError, match="no pipeline for auth_strategy = nope; there are: keystone, keystone_nolimit, noauth"
    ):
        pipeline.pipeline_factory(Loader(), {}, auth_strategy="nope", **CONF)


def test_pipeline_with_a_bad_boolean():
    with pytest.raises(ValueError, match="rate_limit is 'perhaps'"):
        pipeline.pipeline_factory(Loader(), {}, rate_limit="perhaps", **CONF)


def test_an_empty_pipeline():
    with pytest.raises(ValueError, match="empty"):
        pipeline.pipeline_factory(Loader(), {}, noauth=" ")


def test_flavor():
    conf = {"default": "a app", "caching": "c app"}
    assert Client(pipeline.flavor_factory(Loader(), {}, **conf)).get("/").body.startswith(b"a>")
    assert Client(pipeline.flavor_factory(Loader(), {"flavor": "caching"}, **conf)).get("/").body.startswith(b"c>")
    with pytest.raises(ValueError, match="flavor = nope"):
        pipeline.flavor_factory(Loader(), {}, flavor="nope", **conf)
