"""Which hosts a request may name, in every spelling that a client may give them."""

from __future__ import annotations

import pytest

from apid.hosts import OWN_ADDRESS, AllowedHosts, is_authority, parse_allowed
from tests.support.operations import SQUARE, growth


def allows(entries, host, own=""):
    return AllowedHosts(map(parse_allowed, entries)).allows(host, own)


@pytest.mark.parametrize(
    ("entry", "host", "allowed"),
    [
        ("api.example.org", "api.example.org", True),
        ("API.example.org", "api.EXAMPLE.org", True),
        ("api.example.org", "api.example.org.", True),
        ("api.example.org.", "api.example.org:8443", True),
        ("api.example.org", "api.example.org.:80", True),
        ("api.example.org", "api.example.org..", False),
        ("api.example.org", "xapi.example.org", False),
        ("api.example.org", "api.example.org.evil.net", False),
        ("api.example.org", "evil.net", False),
        ("api.example.org", "", False),
        (".example.org", "example.org", True),
        (".example.org", "a.b.example.org", True),
        (".example.org", "badexample.org", False),
        (".example.org", "example.org.evil", False),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "*.example.org", True),  # it is below; no browser sends it, and no name server has it
        ("*", "evil.net", True),
        ("localhost", "localhost:8081", True),
        ("localhost", "localhost.evil.net", False),
        ("127.0.0.1", "127.0.0.1:80", True),
        ("127.0.0.1", "127.0.0.1.", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "127.0.0.1.evil.net", False),
        ("::1", "[::1]:80", True),
        ("[::1]", "[0:0:0:0:0:0:0:1]", True),
        ("10.0.0.1", "[::ffff:10.0.0.1]", True),
        ("2001:db8::1", "[2001:DB8:0::1]", True),
        (OWN_ADDRESS, "own_address", False),
        (".own", "own_address.own", True),
    ],
)
def test_one_entry(entry, host, allowed):
    assert allows([entry], host) is allowed


@pytest.mark.parametrize(
    ("host", "own", "allowed"),
    [
        ("192.0.2.7:8081", "192.0.2.7", True),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("[fe80::1]", "fe80::1%eth0", True),
        ("192.0.2.8", "192.0.2.7", False),
        ("evil.net", "192.0.2.7", False),
        ("evil.net", "evil.net", False),  # SERVER_NAME may be what a proxy said; a name is never an address
        ("localhost", "", False),
        ("", "", False),
    ],
)
def test_the_address_on_which_the_connection_came_in(host, own, allowed):
    assert allows([OWN_ADDRESS], host, own) is allowed
    assert not allows(["api.example.org"], host, own)


def test_a_request_without_host_names_none():
    assert allows(["api.example.org"], None)


def test_no_entries_allow_all():
    nobody = AllowedHosts([])
    assert not nobody
    assert nobody.allows("evil.net", "")
    assert not AllowedHosts(["*", "a"])
    assert AllowedHosts(["a"])


def test_a_long_host_costs_nothing():
    assert not allows([".org"], "a." * 20_000 + "org")
    one = AllowedHosts([".example.org"])
    assert growth(lambda size: lambda: one._contains("a." * size, ""), 30) < SQUARE


def test_forged_hosts_do_not_fill_the_memory():
    one = AllowedHosts(["a"])
    for number in range(5000):
        one.allows(f"{number}.evil.net", "")
    assert one._known.cache_info().currsize <= 256


@pytest.mark.parametrize("value", ["a", "a:80", "[::1]:80", "a.b.", "127.0.0.1:65535", "[v1.x]", "%41"])
def test_authorities(value):
    assert is_authority(value)


@pytest.mark.parametrize("value", ["", ":80", "a:b", "u@a", "[::1", "a:65536", "[::1%25eth0]", "a b", "[]"])
def test_what_is_no_authority(value):
    assert not is_authority(value)
