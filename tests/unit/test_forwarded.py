"""What trusted proxies may say about the client, and that nobody else may."""

import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apid.forwarded import DEFAULT_HEADERS, HEADERS, PROXIED, TrustedProxies, check_headers
from tests.support.operations import SQUARE, growth

NETWORKS = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8:1::/48")]
ALL = HEADERS[:6]
STANDARD = ("forwarded",)


def apply(peer="10.0.0.1", headers=None, script="", **fields):
    environ = {
        "REMOTE_ADDR": peer,
        "REMOTE_PORT": "999",
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "inside:8080",
        "SERVER_NAME": "inside",
        "SERVER_PORT": "8080",
        "SCRIPT_NAME": script,
    }
    before = dict(environ)
    environ |= {
        "HTTP_" + ("" if name == "FORWARDED" else "X_FORWARDED_") + name: value for name, value in fields.items()
    }
    TrustedProxies(NETWORKS, headers or (STANDARD if "FORWARDED" in fields else ALL)).apply(environ)
    assert environ.pop(PROXIED, False) is bool(fields)
    return {key: value for key, value in environ.items() if before.get(key) != value}


def test_without_the_fields_nothing_changes():
    assert apply() == {}


@pytest.mark.parametrize("peer", ["192.0.2.9", "2001:db8:2::1", "nonsense", "unknown"])
def test_nothing_is_believed_and_nothing_is_left_from_a_peer_that_is_not_trusted(peer):
    assert apply(peer, FOR="1.2.3.4", PROTO="https", HOST="evil", PORT="1", PREFIX="/x", FORWARDED="for=1.2.3.4") == {}


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8:1::5", ""])
def test_trusted_peers(peer):
    assert apply(peer, FOR="192.0.2.7")["REMOTE_ADDR"] == "192.0.2.7"


def test_no_networks_trust_nobody():
    nobody = TrustedProxies([])
    assert not nobody
    assert not nobody.trusts("")
    assert not nobody.trusts("10.0.0.1")


@pytest.mark.parametrize(
    ("chain", "client", "left"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("forged, 192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("10.6.6.6, 192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, 10.0.0.2", "192.0.2.7", "192.0.2.7, 10.0.0.2"),
        ("1.1.1.1,192.0.2.7 ,\t10.0.0.3,10.0.0.2", "192.0.2.7", "192.0.2.7, 10.0.0.3, 10.0.0.2"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3", "10.0.0.3, 10.0.0.2"),
        ("192.0.2.7, unknown, 10.0.0.2", "unknown", "unknown, 10.0.0.2"),
        ("2001:db8:2::7", "2001:db8:2::7", "2001:db8:2::7"),
        ("::ffff:192.0.2.7", "192.0.2.7", "::ffff:192.0.2.7"),
    ],
)
def test_the_client_is_found_from_the_right(chain, client, left):
    assert apply(FOR=chain) == {
        "REMOTE_ADDR": client,
        "REMOTE_PORT": "0",
        "HTTP_X_FORWARDED_FOR": left,
    }


@pytest.mark.parametrize(
    ("node", "address", "port"),
    [("192.0.2.7:4711", "192.0.2.7", "4711"), ("[2001:db8:2::7]:4711", "2001:db8:2::7", "4711"), ("[::1]", "::1", "0")],
)
def test_a_port_beside_the_address(node, address, port):
    changed = apply(FOR=node)
    assert (changed["REMOTE_ADDR"], changed["REMOTE_PORT"]) == (address, port)


def test_scheme_host_port_and_prefix():
    assert apply(PROTO="HTTPS", HOST="api.example.org", PORT="8443", PREFIX="/compute/%41/") == {
        "wsgi.url_scheme": "https",
        "HTTP_HOST": "api.example.org:8443",
        "SERVER_NAME": "api.example.org",
        "SERVER_PORT": "8443",
        "SCRIPT_NAME": "/compute/A",
        "HTTP_X_FORWARDED_PROTO": "HTTPS",
        "HTTP_X_FORWARDED_HOST": "api.example.org",
        "HTTP_X_FORWARDED_PORT": "8443",
    }


def test_the_default_port_is_not_added_and_the_hosts_own_port_wins():
    assert apply(PROTO="https", HOST="api", PORT="443")["HTTP_HOST"] == "api"
    assert apply(PROTO="https", HOST="[::1]", PORT="8443")["HTTP_HOST"] == "[::1]:8443"
    changed = apply(HOST="api:81", PORT="82")
    assert (changed["HTTP_HOST"], changed["SERVER_PORT"], changed["SERVER_NAME"]) == ("api:81", "81", "api")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROTO", "ftp"), ("PROTO", ""), ("HOST", "a b"), ("HOST", "a/b"), ("HOST", "u@h"), ("HOST", ""),
        ("HOST", "h::"), ("HOST", "h:0"), ("HOST", "[::1]:00"),
        ("PORT", "0"), ("PORT", "65536"), ("PORT", "-1"), ("PORT", "٣"),
        ("PREFIX", "//evil.example"), ("PREFIX", "x"), ("PREFIX", "/"), ("PREFIX", "/%0"), ("PREFIX", "/%00"), ("PREFIX", ""),
    ],
)  # fmt: skip
def test_nonsense_changes_nothing_that_is_used(name, value):
    changed = apply(**{name: value})
    assert not {key for key in changed if not key.startswith("HTTP_X_FORWARDED_")}


def test_of_a_list_the_element_counts_that_the_outermost_trusted_proxy_wrote():
    changed = apply(FOR="forged, 192.0.2.7, 10.0.0.2", PROTO="gopher, https, http", HOST="evil, api")
    assert (changed["wsgi.url_scheme"], changed["HTTP_HOST"]) == ("https", "evil")
    # HOST had as many elements as there are trusted proxies; with the forged third one in front it does not count:
    assert apply(FOR="forged, 192.0.2.7, 10.0.0.2", HOST="evil, api, inner")["HTTP_HOST"] == "api"
    assert apply(FOR="forged, 192.0.2.7", PROTO="https")["wsgi.url_scheme"] == "https"


def test_the_standard_field():
    changed = apply(
        FORWARDED='for=6.6.6.6, For="[2001:db8:2::7]:4711";proto=https;host="api:444" , for=10.0.0.2;by=_x;proto=http'
    )
    assert (changed["REMOTE_ADDR"], changed["REMOTE_PORT"]) == ("2001:db8:2::7", "4711")
    assert (changed["wsgi.url_scheme"], changed["HTTP_HOST"], changed["SERVER_PORT"]) == ("https", "api:444", "444")


FORGED = {
    "FOR": "192.0.2.7",
    "PROTO": "https",
    "HOST": "evil",
    "PORT": "1",
    "PREFIX": "/x",
    "FORWARDED": "for=6.6.6.6;host=worse",
}
SETS = {
    "FOR": {"REMOTE_ADDR": "192.0.2.7", "REMOTE_PORT": "0", "HTTP_X_FORWARDED_FOR": "192.0.2.7"},
    "PROTO": {"wsgi.url_scheme": "https", "HTTP_X_FORWARDED_PROTO": "https"},
    "HOST": {"HTTP_HOST": "evil", "SERVER_NAME": "evil", "HTTP_X_FORWARDED_HOST": "evil"},
    "PORT": {"SERVER_PORT": "1", "HTTP_X_FORWARDED_PORT": "1"},
    "PREFIX": {"SCRIPT_NAME": "/x"},
}


@pytest.mark.parametrize("names", [named for count in range(6) for named in itertools.combinations(SETS, count)])
def test_what_is_not_named_is_neither_believed_nor_left(names):
    headers = tuple(f"x-forwarded-{name.lower()}" for name in names)
    expected = {key: value for name in names for key, value in SETS[name].items()}
    if {"HOST", "PORT"} <= set(names):
        expected["HTTP_HOST"] = "evil:1"
    assert apply(headers=headers or ("x-real-ip",), **FORGED) == expected


def test_the_default_is_what_every_common_proxy_sets():
    assert DEFAULT_HEADERS == ("x-forwarded-for", "x-forwarded-proto")


def test_the_standard_field_alone():
    assert apply(headers=STANDARD, **FORGED) == {
        "REMOTE_ADDR": "6.6.6.6",
        "REMOTE_PORT": "0",
        "HTTP_HOST": "worse",
        "SERVER_NAME": "worse",
        "HTTP_FORWARDED": 'for="6.6.6.6";host="worse"',
    }


def test_what_a_client_wrote_into_the_standard_field_does_not_stay():
    changed = apply(FORWARDED=r'for=6.6.6.6;host=evil, for=192.0.2.7;x="a\"b\\", for=10.0.0.2')
    assert changed["HTTP_FORWARDED"] == r'for="192.0.2.7";x="a\"b\\", for="10.0.0.2"'


def test_x_real_ip_is_passed_on_where_the_proxy_sets_it():
    environ = {"REMOTE_ADDR": "10.0.0.1", "wsgi.url_scheme": "http", "HTTP_X_REAL_IP": "192.0.2.7"}
    TrustedProxies(NETWORKS, ("x-real-ip",)).apply(environ)
    assert (environ["HTTP_X_REAL_IP"], environ["REMOTE_ADDR"]) == ("192.0.2.7", "10.0.0.1")
    TrustedProxies(NETWORKS).apply(environ)
    assert "HTTP_X_REAL_IP" not in environ


def test_a_prefix_stands_before_what_was_mounted_and_is_applied_once():
    assert apply(PREFIX="/api", script="/v1") == {"SCRIPT_NAME": "/api/v1"}


def test_names_of_fields():
    assert check_headers(("X-Forwarded-For", "X-Real-IP")) == ("x-forwarded-for", "x-real-ip")
    assert check_headers(("Forwarded",)) == ("forwarded",)
    assert check_headers(()) == ()
    with pytest.raises(ValueError, match="'x-forwarded-server' is none of the fields"):
        check_headers(("x-forwarded-for", "X-Forwarded-Server"))
    with pytest.raises(ValueError, match="name either it or them"):
        check_headers(("forwarded", "x-forwarded-for"))


def test_a_long_chain_costs_what_it_is_long():
    def work(size):
        return lambda: (apply(FOR="10.0.0.2," * size), apply(FORWARDED='for="10.0.0.2";proto=http,' * size))

    assert growth(work, 50) < SQUARE


VALUES = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40),
    st.from_regex(
        r'([fF]or|proto|host|by)="?[0-9a-z.:\[\]_\\]{0,12}"?([;,] ?(for|proto)=[0-9.]{0,9}){0,3}', fullmatch=True
    ),
    st.lists(st.sampled_from(["10.0.0.1", "192.0.2.7", "", "unknown", "https", "/a", "[::1]:1"]), max_size=6).map(
        ", ".join
    ),
)


@given(
    st.dictionaries(st.sampled_from(["FOR", "PROTO", "HOST", "PORT", "PREFIX", "FORWARDED"]), VALUES),
    st.sampled_from(["10.0.0.1", "", "6.6.6.6"]),
)
def test_never_raises_and_keeps_the_types(fields, peer):
    assert all(type(value) is str for value in apply(peer, **fields).values())
