"""No request makes the toolkit work more than in proportion to its size: each test counts operations for one and four sizes."""

from __future__ import annotations

import contextlib
import io
import json
from types import SimpleNamespace

import pytest

from apid.api.controllers.animals import _tags
from apid.server.protocol import framing
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
from apid.wsgi.validation import QuerySchema
from tests.support.operations import SQUARE, growth


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
