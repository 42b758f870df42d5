"""Whom a listener believes and which hosts it answers for: in [DEFAULT], in a listener's section, and what is refused."""

from __future__ import annotations

import ipaddress

import pytest

from apid.forwarded import DEFAULT_HEADERS, HEADERS

TWO = "[DEFAULT]\nlisteners = admin\n{}\n[listener:admin]\nbind = 127.0.0.1:0\n{}\n"
NETWORK = ipaddress.ip_network("10.0.0.0/8")


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("trusted_proxy_headers", "x-forwarded-host", "has no meaning without trusted_proxies"),
        (
            "trusted_proxy_headers",
            "forwarded, x-forwarded-for",
            "forwarded says all that the others say: name either it or them, whichever your proxies set",
        ),
        (
            "trusted_proxy_headers",
            "x-forwarded-by",
            f"'x-forwarded-by' is none of the fields that can be believed: {', '.join(HEADERS)}",
        ),
        *(
            (
                "allowed_hosts",
                host,
                f"{host!r} is no host: want a name, an address, .example.org, *.example.org, own_address or *, without a port",
            )
            for host in (
                "api.example.org:80",
                "[::1]:80",
                "a b",
                "http://a",
                "*.",
                ".",
                "a.*.b",
                "1.2.3",
                "-a",
                "a/b",
            )
        ),
    ],
)
def test_a_wrong_value(refused, tmp_path, option, value, reason):
    assert (
        refused(f"[DEFAULT]\n{option} = {value}\n") == f"{tmp_path}/apid.conf:2: [DEFAULT] {option} = {value}: {reason}"
    )


def test_a_listener_names_fields_and_trusts_nobody(refused, tmp_path):
    text = TWO.format("", "trusted_proxy_headers = forwarded")
    where = f"{tmp_path}/apid.conf:6: [listener:admin] trusted_proxy_headers = forwarded"
    assert refused(text) == f"{where}: has no meaning without trusted_proxies"


def test_nothing_is_believed_and_any_host_is_answered_for_by_default(load):
    http = load("").listeners[0].http
    assert (http.trusted_proxies, http.trusted_proxy_headers, http.allowed_hosts) == ((), DEFAULT_HEADERS, ())


def test_a_listener_has_what_default_says_until_it_says_other(load):
    default = "trusted_proxies = 10.0.0.0/8\ntrusted_proxy_headers = Forwarded\nallowed_hosts = .Example.org., [::1], own_address"
    main, admin = (one.http for one in load(TWO.format(default, "")).listeners)
    assert main == admin
    assert (main.trusted_proxies, main.trusted_proxy_headers) == ((NETWORK,), ("forwarded",))
    assert main.allowed_hosts == (".example.org", "::1", "own_address")
    own = "trusted_proxies =\nallowed_hosts = *\ntrusted_proxy_headers = x-forwarded-for, x-forwarded-proto"
    main, admin = (one.http for one in load(TWO.format(default, own)).listeners)
    assert (admin.trusted_proxies, admin.trusted_proxy_headers, admin.allowed_hosts) == ((), DEFAULT_HEADERS, ("*",))
    assert main.trusted_proxies == (NETWORK,)


def test_a_network_of_mapped_addresses_is_one_of_ipv4(load):
    assert load("[DEFAULT]\ntrusted_proxies = ::ffff:10.0.0.0/104\n").listeners[0].http.trusted_proxies == (NETWORK,)


def test_proxy_protocol_needs_proxies_on_a_unix_socket_as_well(refused):
    assert "needs trusted_proxies" in refused("[DEFAULT]\nbind = unix:/run/apid/api.sock\nproxy_protocol = yes\n")


def test_a_listener_alone_may_trust(load):
    own = "trusted_proxies = 10.0.0.0/8\ntrusted_proxy_headers = x-forwarded-for"
    main, admin = (one.http for one in load(TWO.format("", own)).listeners)
    assert (main.trusted_proxies, admin.trusted_proxies) == ((), (NETWORK,))
    # and a proxy that only one listener trusts is enough for what [DEFAULT] says of all
    assert load(TWO.format("trusted_proxy_headers = x-forwarded-for", "trusted_proxies = ::1"))
    assert load(TWO.format("proxy_protocol = yes", "trusted_proxies = ::1")).listeners[1].http.proxy_protocol
