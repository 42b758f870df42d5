"""The account of the nearest proxy stands, whatever a client wrote before it; where it cannot be read, the client is unknown."""

from __future__ import annotations

import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apid import forwarded, hosts
from apid.forwarded import TrustedProxies
from apid.wsgi.middleware import ipfilter, proxyheaders
from tests.support.operations import SQUARE, growth

PROXY = "10.0.0.1"
NETWORK = ipaddress.ip_network("10.0.0.0/8")
CLIENT = "6.6.6.6"
BEFORE = {
    "REMOTE_ADDR": PROXY,
    "REMOTE_PORT": "999",
    "wsgi.url_scheme": "http",
    "HTTP_HOST": "inside",
    "SERVER_NAME": "inside",
    "SERVER_PORT": "80",
    "SCRIPT_NAME": "",
}
STANDARD = TrustedProxies([NETWORK], ("forwarded",))
OTHERS = TrustedProxies([NETWORK], forwarded.HEADERS[:6])


def by_standard(value, **environ):
    environ = {**BEFORE, "HTTP_FORWARDED": value, **environ}
    STANDARD.apply(environ)
    return environ


def by_list(value, **environ):
    environ = {**BEFORE, "HTTP_X_FORWARDED_FOR": value, **environ}
    OTHERS.apply(environ)
    return environ


def client(environ):
    return environ["REMOTE_ADDR"], environ["REMOTE_PORT"]


MALFORMED = [
    "@@@", ";;;=", "=", "for", "for=", "for=a=b", "for = 1.1.1.1", "for=1.1.1.1 2.2.2.2", "x y",
    'for="', 'for="1.1.1.1', 'for=1.1.1.1"', '"', '""', '"""', "\\", '\\"', 'for="\\', 'for="\\"', 'for="a\\\\\\',
    'for="a" "b"', 'for=""x', 'x"for="1.1.1.1"', 'for="1.1.1.1";', '";for="1.1.1.1', 'by="a, b', "for='1.1.1.1",
    "for=1.1.1.1;for=2.2.2.2", "for=1.1.1.1;FOR=1.1.1.1", "", ";", ";;", " ", "\t", "\xe9", "for=\xe9", 'for="\xe9"',
    "for=10.0.0.1", 'for="10.0.0.1";by="', "for=10.0.0.1, for=10.0.0.2", "for=unknown", "for=_hidden", "proto=https",
]  # fmt: skip


@pytest.mark.parametrize("forged", MALFORMED)
def test_what_a_client_wrote_does_not_reach_the_element_of_the_proxy(forged):
    elements = ["for=6.6.6.6", 'For="6.6.6.6"', 'for="6.6.6.6";by=_x;proto=http', "proto=http; for=6.6.6.6 "]
    for separator, written in itertools.product([", ", ",", " ,\t", ",,", ", , "], elements):
        environ = by_standard(forged + separator + written)
        assert client(environ) == (CLIENT, "0"), separator + written
        assert environ == by_standard(written), separator + written


@pytest.mark.parametrize("forged", [*MALFORMED, "10.0.0.1", "[::1", '"6.6.6.6"'])
def test_what_a_client_wrote_does_not_reach_the_address_of_the_proxy(forged):
    environ = by_list(f"{forged}, {CLIENT}")
    assert client(environ) == (CLIENT, "0")
    assert environ["HTTP_X_FORWARDED_FOR"] == CLIENT


UNREADABLE = [
    "unknown", "UNKNOWN", "_hidden", "", "-", "x", "localhost", "a b", "<script>", "@@@", "6.6.6", "6.6.6.6.6", "6.6.6.256",
    "06.6.6.6", "6.6.6.06", "0x6.6.6.6", "101058054", "0x06060606", "6.6.1542", "6.6.6.6/32", "6.6.6.6%eth0", "%36.6.6.6",
    "6.6.6.6%00", "\u0666.6.6.6", "\xb2.6.6.6", " 6.6.6.6", "6.6.6.6:", "6.6.6.6:x", "6.6.6.6:-1", "6.6.6.6:65536",
    "6.6.6.6:000080", "6.6.6.6:80:80", "6.6.6.6:_", "6.6.6.6:_a b", "6.6.6.6:\u0663", "[6.6.6.6]", "[6.6.6.6]:80",
    "[127.0.0.1]junk", "[10.0.0.1]junk", "[::1]junk", "[::1", "::1]", "[]", "[::1]]", "[[::1]]", "[::1]:", "[::1]:x",
    "6.6.6.6:+1", "[::1]:65536",
    "::1%eth0", "[::1%eth0]", "[::1%25eth0]", "[::1]%eth0", ":::1", "1::2::3", "::12345", "[v1.x]", "::ffff:6.6.6",
    "::ffff:06.6.6.6", "unix:", "unix:/run/a.sock", "6.6.6.6\\", "6.6.6.6;",
]  # fmt: skip
"""No addresses, or not as RFC 7239 §6 and RFC 3986 §3.2.2 write them."""


def quoted(text):
    return 'for="' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize("node", [*UNREADABLE, "6.6.6.6, ", '"6.6.6.6"'])
def test_a_nearest_address_that_cannot_be_read_is_an_unknown_client(node):
    if not node.startswith(" "):  # whitespace around an element of a list is none of it
        environ = by_list(f"5.5.5.5, {node}")
        assert client(environ) == ("unknown", "0")
        assert environ["HTTP_X_FORWARDED_FOR"] == "unknown"
    environ = by_standard(f"for=5.5.5.5, {quoted(node)};proto=https;host=outer")
    assert client(environ) == ("unknown", "0")
    assert (environ["wsgi.url_scheme"], environ["HTTP_HOST"]) == ("https", "outer")
    assert environ["HTTP_FORWARDED"] == 'for="unknown";proto="https";host="outer"'


@pytest.mark.parametrize(
    "element",
    [
        "@@@", ";;;=", "=", "for", "for=", "for=a=b", "for = 1.1.1.1", "for=1.1.1.1 2.2.2.2", 'for="', 'for="1.1.1.1',
        'for=1.1.1.1"',
        '"', '""', '""" ', "\\", '\\"', 'for="\\"', 'for="1.1.1.1\\"', 'for="a" "b"', 'for=""x', 'x"for="1.1.1.1"',
        "for=1.1.1.1;for=2.2.2.2", "for=1.1.1.1;FOR=1.1.1.1", 'for=1.1.1.1;by="a"b"', "for=::1", "for=[::1]", "for=6.6.6.6:80",
        "for=6.6.6.6;host=a/b", "", ";", "\xe9", "for=\xe9",
    ],
)  # fmt: skip
@pytest.mark.parametrize("forged", ["", "for=5.5.5.5;host=evil;proto=https, ", 'for="5.5.5.5, '])
def test_of_a_nearest_element_that_is_malformed_nothing_is_believed(forged, element):
    environ = by_standard(forged + element)
    assert client(environ) == ("unknown", "0")
    assert (environ["wsgi.url_scheme"], environ["HTTP_HOST"]) == ("http", "inside")
    assert environ["HTTP_FORWARDED"] == 'for="unknown"'


@pytest.mark.parametrize(
    ("node", "address", "port"),
    [
        ("6.6.6.6", "6.6.6.6", "0"),
        ("6.6.6.6:80", "6.6.6.6", "80"),
        ("6.6.6.6:0", "6.6.6.6", "0"),
        ("6.6.6.6:65535", "6.6.6.6", "65535"),
        ("6.6.6.6:00080", "6.6.6.6", "80"),
        ("6.6.6.6:_hidden", "6.6.6.6", "0"),
        ("[2001:db8::1]", "2001:db8::1", "0"),
        ("[2001:db8::1]:80", "2001:db8::1", "80"),
        ("[2001:db8::1]:_a.b-c", "2001:db8::1", "0"),
        ("[2001:DB8:0:0:0:0:0:1]", "2001:db8::1", "0"),
        ("[::ffff:6.6.6.6]", "6.6.6.6", "0"),
        ("[::FFFF:606:606]:80", "6.6.6.6", "80"),
        ("[0:0:0:0:0:ffff:6.6.6.6]", "6.6.6.6", "0"),
        ("[::6.6.6.6]", "::606:606", "0"),  # IPv4-compatible, deprecated: no IPv4
        ("[64:ff9b::6.6.6.6]", "64:ff9b::606:606", "0"),  # NAT64
        ("[2002:606:606::1]", "2002:606:606::1", "0"),  # 6to4
        ("[::]", "::", "0"),
    ],
)
def test_addresses_and_ports(node, address, port):
    assert client(by_standard(quoted(node))) == (address, port)
    assert client(by_list(node)) == (address, port)


@pytest.mark.parametrize(
    ("node", "address"),
    [("2001:db8::1", "2001:db8::1"), ("::ffff:6.6.6.6", "6.6.6.6"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8")],
)
def test_ipv6_without_brackets_is_a_habit_of_the_list_only(node, address):
    assert client(by_list(node)) == (address, "0")
    assert client(by_standard(quoted(node))) == ("unknown", "0")


@pytest.mark.parametrize(
    ("value", "address", "left"),
    [
        ("for=5.5.5.5, for=6.6.6.6, for=10.0.0.2", CLIENT, 'for="6.6.6.6", for="10.0.0.2"'),
        ("for=5.5.5.5, @@@, for=10.0.0.2", "unknown", 'for="unknown", for="10.0.0.2"'),
        ("for=5.5.5.5, proto=https, for=10.0.0.2", "unknown", 'proto="https";for="unknown", for="10.0.0.2"'),
        ("for=5.5.5.5, for=10.0.0.3,, for=10.0.0.2", "unknown", 'for="unknown", for="10.0.0.2"'),
        ('for=", for=6.6.6.6, for=10.0.0.2', CLIENT, 'for="6.6.6.6", for="10.0.0.2"'),
        ("for=10.0.0.3, for=10.0.0.2", "10.0.0.3", 'for="10.0.0.3", for="10.0.0.2"'),
        ("for=6.6.6.6;;proto=https;", CLIENT, 'for="6.6.6.6";proto="https"'),
        (r'for=6.6.6.6;x="a, for=\"5.5.5.5\", \\"', CLIENT, r'for="6.6.6.6";x="a, for=\"5.5.5.5\", \\"'),
        (r'x="\\\\";for=6.6.6.6', CLIENT, r'x="\\\\";for="6.6.6.6"'),
        (r'for="\6.6.6.\6"', CLIENT, 'for="6.6.6.6"'),
    ],
)
def test_each_element_that_is_reached_has_to_be_read(value, address, left):
    environ = by_standard(value)
    assert (environ["REMOTE_ADDR"], environ["HTTP_FORWARDED"]) == (address, left)


def test_other_lists_are_read_at_the_hop_of_the_client():
    lists = {
        "HTTP_X_FORWARDED_PROTO": "gopher, https, http",
        "HTTP_X_FORWARDED_HOST": "evil, outer, inner",
        "HTTP_X_FORWARDED_PORT": "1, 444, 80",
    }
    for chain in ("5.5.5.5, 6.6.6.6, 10.0.0.2", "5.5.5.5, unknown, 10.0.0.2"):
        environ = by_list(chain, **lists)
        assert (environ["wsgi.url_scheme"], environ["HTTP_HOST"]) == ("https", "outer:444"), chain
    for chain in ("5.5.5.5, 6.6.6.6", "10.0.0.9, unknown"):
        environ = by_list(chain, **lists)
        assert (environ["wsgi.url_scheme"], environ["HTTP_HOST"]) == ("http", "inner:80".removesuffix(":80")), chain


@pytest.mark.parametrize(("count", "address"), [(64, CLIENT), (65, "unknown"), (66, "unknown"), (10_000, "unknown")])
def test_a_chain_of_more_proxies_than_are_followed_has_an_unknown_client(count, address):
    assert by_list(", ".join([CLIENT, *["10.0.0.2"] * (count - 1)]))["REMOTE_ADDR"] == address
    assert by_standard(", ".join(["for=6.6.6.6", *["for=10.0.0.2"] * (count - 1)]))["REMOTE_ADDR"] == address


def test_an_unknown_client_is_trusted_and_allowed_by_nobody():
    everywhere = "0.0.0.0/0, ::/0"
    assert not TrustedProxies(map(ipaddress.ip_network, everywhere.split(", "))).trusts("unknown")
    for conf, status in (
        ({"allow": everywhere}, False),
        ({"allow": everywhere, "allow_unix": "true"}, False),
        ({"deny": "192.0.2.1"}, False),
        ({}, True),
    ):
        assert ipfilter.factory({}, **conf)(None).allows("unknown") is status, conf


@pytest.mark.parametrize(
    "text",
    [
        "[6.6.6.6]",
        "6.6.6.6%eth0",
        "::1%",
        "::1%a%b",
        "06.6.6.6",
        "0x6.6.6.6",
        "101058054",
        "\u0666.6.6.6",
        " ::1",
        "",
        "unknown",
    ],
)
def test_what_is_no_address(text):
    assert hosts.address_of(text) is None


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:a00:1", "10.0.0.1/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("::ffff:0:0:0/96", "::ffff:0:0:0/96"),
        ("64:ff9b::/96", "64:ff9b::/96"),
        ("10.0.0.0/8", "10.0.0.0/8"),
    ],
)
def test_a_network_of_mapped_addresses_is_one_of_ipv4(text, network):
    assert hosts.network_of(text, strict=True) == ipaddress.ip_network(network)
    filtered = ipfilter.factory({}, allow=text)(None)
    assert filtered.allows(str(ipaddress.ip_network(network).network_address))


def test_a_mapped_peer_has_one_spelling():
    for peer in ("::ffff:6.6.6.6", "::ffff:606:606"):
        assert hosts.one_spelling(peer) == CLIENT
        environ = {**BEFORE, "REMOTE_ADDR": peer}
        STANDARD.apply(environ)
        assert environ["REMOTE_ADDR"] == CLIENT
    for peer in ("", "unknown", "::1", "64:ff9b::606:606", "2002:606:606::1", "fe80::1%eth0", "::ffff:nonsense"):
        assert hosts.one_spelling(peer) == peer


LINE = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40)
HOSTILE = st.one_of(
    LINE,
    st.text(' \t",;=\\fFor@:[].0123456789', max_size=40),
    st.lists(st.sampled_from(MALFORMED), max_size=6).map(", ".join),
)
TOKEN = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
VALUES = st.one_of(st.from_regex(r"[A-Za-z0-9._-]{1,9}", fullmatch=True), LINE)


@given(
    HOSTILE,
    st.dictionaries(TOKEN.filter(lambda name: name != "for"), VALUES, max_size=3),
    st.sampled_from([",", ", ", "\t, "]),
)
def test_whatever_comes_before_it_the_element_of_the_proxy_stands(forged, others, separator):
    element = {"for": CLIENT, **others}
    written = ";".join(quoted(value).replace("for", name, 1) for name, value in element.items())
    expected = by_standard(written)
    assert expected["REMOTE_ADDR"] == CLIENT
    assert by_standard(forged + separator + written) == expected
    assert next(forwarded.elements_from_right(forged + separator + written)) == element


@given(HOSTILE, st.sampled_from([",", ", ", "\t, "]))
def test_whatever_comes_before_it_the_address_of_the_proxy_stands(forged, separator):
    assert by_list(forged + separator + CLIENT) == by_list(CLIENT)


@given(HOSTILE, st.sampled_from(["HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR"]))
def test_daemon_and_filter_agree_and_the_client_is_an_address_or_unknown(value, key):
    headers, trusted = ("forwarded", STANDARD) if key == "HTTP_FORWARDED" else ("x-forwarded-for", OTHERS)
    one = {**BEFORE, key: value}
    other = dict(one)
    trusted.apply(one)
    made = proxyheaders.factory({}, trusted_proxies=str(NETWORK), trusted_proxy_headers=headers)
    made(lambda _environ, _start: [])(other, None)
    assert one == other
    assert one["REMOTE_ADDR"] == "unknown" or hosts.address_of(one["REMOTE_ADDR"])
    assert one["REMOTE_ADDR"] != PROXY or PROXY in value  # the peer is a client only where the field says so
    made(lambda _environ, _start: [])(one, None)  # a filter behind the daemon
    assert one["REMOTE_ADDR"] == other["REMOTE_ADDR"]


@pytest.mark.parametrize(
    "piece",
    [
        "for=10.0.0.2,",
        'for="',
        '\\"',
        "\\",
        '"',
        "=",
        ";",
        ",",
        " ",
        'for="10.0.0.2";proto=http, ',
        'x="\\\\',
        "1",
        ":",
        "[",
        "1.",
        "a=",
    ],
)
@pytest.mark.parametrize("tail", ["", "for=10.0.0.2", '"', ';by="x"'])
def test_the_work_is_linear(piece, tail):
    def work(size):
        return lambda: (by_standard(piece * size + tail), by_list(piece * size + tail))

    assert growth(work, 200) < SQUARE
