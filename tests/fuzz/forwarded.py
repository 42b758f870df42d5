"""Fuzz target: the fields of proxies. Invariants:

1. Never an exception, whatever the fields hold that a head can hold.
2. From a peer that is not trusted nothing changes but the mark that there were fields, and none of them is left; from one that
   is, none that is not named.
3. REMOTE_ADDR is an address or `unknown`, wsgi.url_scheme is http or https, HTTP_HOST is a valid authority, SCRIPT_NAME is a path
   or empty.
4. What a client puts before the element of a proxy changes nothing.
"""

from __future__ import annotations

import ipaddress
import sys

import atheris

with atheris.instrument_imports(include=["apid.forwarded", "apid.hosts"]):
    from apid import hosts
    from apid.forwarded import DEFAULT_HEADERS, HEADERS, PROXIED, UNKNOWN, TrustedProxies

NETWORKS = [ipaddress.ip_network("10.0.0.0/8")]
CHOICES = [HEADERS[:-1], DEFAULT_HEADERS, HEADERS[-1:]]
PROXIES = [TrustedProxies(NETWORKS, headers) for headers in CHOICES]
KEYS = ["HTTP_" + name.upper().replace("-", "_") for name in HEADERS]
BEFORE = {
    "REMOTE_PORT": "1",
    "wsgi.url_scheme": "http",
    "HTTP_HOST": "inside",
    "SERVER_NAME": "inside",
    "SERVER_PORT": "80",
    "SCRIPT_NAME": "",
}


def check_nearest(fields: dict[str, str]) -> None:
    """Let a proxy append its element to what has come."""
    for number, key, element in ((2, "HTTP_FORWARDED", 'for="192.0.2.7"'), (1, "HTTP_X_FORWARDED_FOR", "192.0.2.7")):
        if key in fields:
            environ = {**BEFORE, key: f"{fields[key]}, {element}", "REMOTE_ADDR": "10.0.0.1"}
            PROXIES[number].apply(environ)
            assert (environ["REMOTE_ADDR"], environ[key]) == ("192.0.2.7", element)


def one_input(data: bytes) -> None:
    """The first octet says which fields are named, the second which are there, the others are their values, parted by LF."""
    if len(data) < 2:
        return
    choice = data[0] % len(CHOICES)
    values = data[2:].decode("latin-1").split("\n")
    fields = {
        key: value for number, (key, value) in enumerate(zip(KEYS, values, strict=False)) if data[1] >> number & 1
    }
    environ = {**BEFORE, **fields, "REMOTE_ADDR": "192.0.2.1"}
    PROXIES[choice].apply(environ)
    assert environ.pop(PROXIED, False) == bool(fields)
    assert environ == {**BEFORE, "REMOTE_ADDR": "192.0.2.1"}
    environ = {**BEFORE, **fields, "REMOTE_ADDR": "10.0.0.1"}
    PROXIES[choice].apply(environ)
    named = {key for key, name in zip(KEYS, HEADERS, strict=True) if name in CHOICES[choice]}
    assert {key for key in environ if key in KEYS} <= named
    assert environ["REMOTE_ADDR"] == UNKNOWN or ipaddress.ip_address(environ["REMOTE_ADDR"])
    check_nearest(fields)
    assert environ["wsgi.url_scheme"] in {"http", "https"}
    assert hosts.is_authority(environ["HTTP_HOST"])
    assert 0 < int(environ["SERVER_PORT"]) <= 65535
    assert environ["SCRIPT_NAME"] == "" or environ["SCRIPT_NAME"].startswith("/")
    assert not environ["SCRIPT_NAME"].startswith("//")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
