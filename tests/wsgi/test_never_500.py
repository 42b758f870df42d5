"""Whatever a client sends, the answer is well-formed and no 500: generated requests through urlmap, the filters and the zoo."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apid.wsgi.middleware import faultwrap, noauth, requestid, sizelimit
from apid.wsgi.testing import Client
from apid.wsgi.urlmap import URLMap
from apid.wsgi.versions import Version, VersionsApp
from tests.wsgi.zoo import Zoo

PATHS = [
    "/",
    "/v1",
    "/v1/animals",
    "/v1/animals/7",
    "/v1/animals/7/action",
    "/v1/below/x",
    "/v2/x",
    "/versions",
    "*",
    "",
]
HEADERS = [
    "Accept",
    "Accept-Language",
    "Content-Type",
    "OpenStack-API-Version",
    "X-OpenStack-Zoo-API-Version",
    "X-Auth-Token",
    "X-Auth-User",
    "X-Openstack-Request-Id",
    "Host",
    "Transfer-Encoding",
]
VALUES = [
    "application/json",
    "application/json;version=1",
    "application/json; q=0.1, */*",
    "zoo 1.2",
    "zoo latest",
    "1.2",
    "u:p",
    "a.example:80",
    "[::1]",
    "de, en;q=0.5",
    "chunked",
]
BODIES = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"1",
    b'{"animal": {"name": "a"}}',
    b'{"feed": null}',
    b'{"feed": {}}',
    b"{",
    b"\xff",
    b'"\\ud800"',
]

text = st.text(st.characters(max_codepoint=255), max_size=30)
requests = st.tuples(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get"]),
    st.one_of(st.sampled_from(PATHS), st.tuples(st.sampled_from(PATHS), text).map("".join)),
    st.one_of(st.just(""), text),
    st.dictionaries(st.sampled_from(HEADERS), st.one_of(st.sampled_from(VALUES), text), max_size=4),
    st.one_of(st.none(), st.sampled_from(BODIES), st.binary(max_size=60)),
    st.booleans(),
)


@pytest.fixture(scope="module")
def application():
    urlmap = URLMap()
    zoo = Zoo()
    for filters in (noauth.factory({}, without_token="serve"), sizelimit.factory({}), requestid.factory({})):
        zoo = filters(zoo)
    urlmap["/"] = VersionsApp([Version("v1")])
    urlmap["/v1"] = zoo
    urlmap["domain a.example /v1"] = zoo
    return faultwrap.factory({})(urlmap)


def check(application, sent):
    method, path, query, headers, body, terminated = sent
    client = Client(application, environ={"wsgi.input_terminated": True} if terminated else {}, validate=False)
    environ = client.environ(method, "/", headers, body)
    environ.update(PATH_INFO=path, QUERY_STRING=query)
    seen = []

    def start_response(status, headers, exc_info=None):
        seen.append((status, headers))

    chunks = application(environ, start_response)
    data = b"".join(chunks)
    status, pairs = seen[-1]
    assert int(status[:3]) < 500, (status, data)
    fields = {name.lower(): value for name, value in pairs}
    assert all("\n" not in value and "\r" not in value for _, value in pairs)
    if method == "HEAD" or status[:3] == "204":
        assert data == b""
    elif "content-length" in fields:
        assert int(fields["content-length"]) == len(data)
    if data and status[0] == "4":
        (fault,) = json.loads(data).values()
        told = fault[0] if isinstance(fault, list) else fault
        assert told["request_id"] == fields["x-openstack-request-id"]


@settings(max_examples=400, deadline=None)
@given(requests)
@example(("GET", "/v1/animals", "legs=\xff", {}, None, True))
@example(("POST", "/v1/animals", "", {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}, None, True))
def test_never_500(application, sent):
    check(application, sent)
