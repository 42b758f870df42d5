"""Whatever a client writes: the filters that read headers and bodies never raise, never believe it, never lose a byte."""

import io
import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from apid import forwarded, hosts
from apid.wsgi.middleware import debug, ipfilter, proxyheaders, sizelimit

PIECES = st.sampled_from(
    [
        "for",
        "=",
        ";",
        ",",
        '"',
        "\\",
        " ",
        "[",
        "]",
        ":",
        "10.0.0.1",
        "203.0.113.7",
        "2001:db8::1",
        "unknown",
        "_x",
        "proto",
        "https",
    ]
)
WILD = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=25).map("".join))
LATIN = WILD.map(lambda text: text.encode("utf-8", "replace").decode("latin-1"))


def after(conf, peer, headers):
    seen = []
    made = proxyheaders.factory({}, **conf)(lambda environ, start_response: seen.append(environ) or [])
    environ = {
        "REMOTE_ADDR": peer,
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "inner",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
    }
    made({**environ, **headers}, None)
    return seen[0]


@given(
    named=st.sampled_from([("forwarded",), forwarded.HEADERS[:-1], forwarded.DEFAULT_HEADERS]),
    headers=st.fixed_dictionaries({}, optional=dict.fromkeys(forwarded._ALL, LATIN)),
)
def test_a_trusted_proxy_may_pass_on_anything(named, headers):
    environ = after({"trusted_proxies": "10.0.0.0/8", "trusted_proxy_headers": named}, "10.0.0.1", headers)
    assert environ["REMOTE_ADDR"] == "unknown" or ipaddress.ip_address(environ["REMOTE_ADDR"])
    assert environ["wsgi.url_scheme"] in ("http", "https")
    assert not set(environ["HTTP_HOST"]) & set(" \t\r\n/\\@?#,\"'<>")
    assert environ["SCRIPT_NAME"] == "" or environ["SCRIPT_NAME"].startswith("/")
    assert "//" not in environ["SCRIPT_NAME"]


@given(peer=LATIN.filter(bool), headers=st.fixed_dictionaries({}, optional=dict.fromkeys(forwarded._ALL, LATIN)))
def test_anybody_else_changes_nothing(peer, headers):
    environ = after({"trusted_proxies": "198.51.100.0/24"}, peer, headers)
    assert environ.pop(forwarded.PROXIED, False) is bool(headers)
    assert environ == {
        "REMOTE_ADDR": peer,
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "inner",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
    }


NAME = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
VALUE = st.one_of(st.from_regex(r"[A-Za-z0-9._:-]{1,12}", fullmatch=True), st.text('abc ,;="\\[]:', max_size=12))


@given(st.lists(st.dictionaries(NAME, VALUE, min_size=1, max_size=4), min_size=1, max_size=5))
def test_forwarded_is_read_as_written(elements):
    def written(value):
        return (
            value
            if value and value.replace(".", "").isalnum()
            else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        )

    text = ", ".join(";".join(f"{name}={written(value)}" for name, value in element.items()) for element in elements)
    assert list(forwarded.elements_from_right(text)) == elements[::-1]


@given(peer=LATIN)
def test_any_peer_gets_a_verdict(peer):
    made = ipfilter.factory({}, allow="10.0.0.0/8")(None)
    address = hosts.address_of(peer)
    assert made.allows(peer) is (address is not None and address in ipaddress.ip_network("10.0.0.0/8"))


class Trickle(io.BytesIO):
    """A stream that gives what it has, in pieces of its own, as a socket does."""

    def read(self, size=-1):
        return super().read(min(size, 3) if size and size > 0 else size)


CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 12)),
        st.tuples(st.just("readline"), st.integers(-1, 12)),
        st.tuples(st.just("readlines"), st.integers(0, 12)),
    ),
    max_size=12,
)


@given(data=st.binary(max_size=60).map(lambda raw: raw.replace(b"\x00", b"\n")), calls=CALLS, spare=st.integers(0, 3))
def test_a_counted_body_loses_nothing(data, calls, spare):
    stream = sizelimit.CountedInput(Trickle(data), len(data) + spare, OverflowError)
    found = b""
    for name, size in calls:
        got = getattr(stream, name)(size)
        if name == "read":
            assert len(got) <= size
        if name == "readline":
            assert b"\n" not in got[:-1]
        found += b"".join(got) if isinstance(got, list) else got
    assert found + stream.read() == data


@given(data=st.binary(min_size=1, max_size=60), calls=CALLS)
def test_a_counted_body_gives_no_byte_beyond_its_limit(data, calls):
    limit = len(data) // 2
    stream = sizelimit.CountedInput(Trickle(data), limit, OverflowError)
    found = 0
    try:
        for name, size in calls:
            got = getattr(stream, name)(size)
            found += len(b"".join(got) if isinstance(got, list) else got)
        found += len(stream.read())
    except OverflowError:
        assert found <= limit
    else:
        raise AssertionError("the whole body went through")


@given(name=LATIN, value=WILD)
def test_what_debug_shows_is_one_line(name, value):
    assert "\n" not in debug.masked(name, value)
    assert "\r" not in debug.masked("QUERY_STRING", value)
