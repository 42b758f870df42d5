"""S4: whose word is taken, and which hosts are answered for, by listener; judged from the client's side of the real daemon."""

from __future__ import annotations

import pathlib

from tests.support.apps import pipeline
from tests.support.client import Connection, get
from tests.support.processes import wait_until

TOP = pathlib.Path(__file__).resolve().parents[2]
FORGED = {
    "X-Forwarded-For": "198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Prefix": "/evil",
    "X-Real-Ip": "198.51.100.8",
    "Forwarded": "for=198.51.100.9;host=worse.example",
}


def where(one, name):
    host, _, port = one.addresses(name)[0].rpartition(":")
    return host, int(port)


def told(address, headers):
    environ = get(address, "/environ", headers=headers).json()
    kept = sorted(key for key in environ if "FORWARDED" in key or "REAL_IP" in key)
    return environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTP_HOST"], environ["SCRIPT_NAME"], kept


def codes(address, *hosts, target="/environ"):
    found = []
    for host in hosts:
        with Connection(address) as one:
            one.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            found.append(one.answer().status)
    return found


def test_each_listener_believes_and_answers_as_its_section_says(daemon):
    one = daemon(
        paste=pipeline("framing"),
        workers=1,
        listeners="host, standard, strict, admin",
        trusted_proxies="127.0.0.0/8",
        sections={
            "listener:host": {
                "bind": "127.0.0.1:0",
                "trusted_proxy_headers": "X-Forwarded-For, X-Forwarded-Host",
                "allowed_hosts": "api.example.org",
            },
            "listener:standard": {"bind": "127.0.0.1:0", "trusted_proxy_headers": "forwarded"},
            "listener:strict": {
                "bind": "127.0.0.1:0",
                "trusted_proxies": "",
                "allowed_hosts": "api.example.org, .example.net, own_address",
            },
            "listener:admin": {
                "bind": "127.0.0.1:0",
                "config_file": TOP / "etc" / "apid" / "api-paste.ini",
                "app_name": "admin",
                "trusted_proxies": "",
            },
        },
    ).start()
    inner = f"127.0.0.1:{one.port}"
    fields = ["HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO"]
    assert told(("127.0.0.1", one.port), {"Host": inner, **FORGED}) == ("198.51.100.7", "https", inner, "", fields)
    told_standard = told(where(one, "standard"), {"Host": inner, **FORGED})
    assert told_standard == ("198.51.100.9", "http", "worse.example", "", ["HTTP_FORWARDED"])
    assert codes(("127.0.0.1", one.port), "evil.example") == [200]

    host = where(one, "host")
    assert get(host, "/environ", headers={"Host": "api.example.org", **FORGED}).status == 421
    changed = {**FORGED, "X-Forwarded-Host": "api.example.org"}
    assert told(host, {"Host": "evil.example", **changed})[2:4] == ("api.example.org", "")

    strict = where(one, "strict")
    assert codes(strict, "api.example.org", "API.example.org.:99", "a.example.net", "127.0.0.1:1") == [200] * 4
    assert codes(strict, "localhost", "evil.example", "api.example.org.evil", "127.0.0.2", "[::1]") == [421] * 5
    # the authority of an absolute target takes the place of Host (RFC 9112, 3.2.2)
    assert codes(strict, "api.example.org", target="http://evil.example/environ") == [421]
    assert codes(strict, "evil.example", target="http://api.example.org/environ") == [200]
    with Connection(strict) as client:
        client.send(b"GET /environ HTTP/1.0\r\n\r\n")  # names no host
        assert client.answer().status == 200
    refused = get(strict, "/environ", headers={"Host": "evil.example"})
    assert (refused.status, refused.closes) == (421, True)
    assert "allowed_hosts" in refused.json()["misdirectedRequest"]["message"]
    assert "evil" not in refused.text

    admin = where(one, "admin")
    for path in ("/metrics", "/dashboard/", "/dashboard/events"):
        assert codes(admin, "evil.example", target=path) == [421], path
    assert codes(admin, "localhost", "127.0.0.1:8081", target="/metrics") == [200, 200]
    assert codes(admin, "evil.example", target="/healthcheck") == [200]
    wait_until(lambda: one.status()["refusals"]["421"] == 1 + 5 + 1 + 1, "all are counted")
