"""Fuzz target: the fields of proxies. Invariants:

1. Never an exception, whatever the fields hold that a head can hold.
2. From a peer that is not trusted nothing changes, and none of the fields is left.
3. REMOTE_ADDR is an address, wsgi.url_scheme is http or https, HTTP_HOST is a valid authority, SCRIPT_NAME is a path or empty.
"""

from __future__ import annotations

import ipaddress
import sys

import atheris

with atheris.instrument_imports(include=["apid.http"]):
    from apid.http import grammar
    from apid.http.forwarded import TrustedProxies

PROXIES = TrustedProxies([ipaddress.ip_network("10.0.0.0/8")])
KEYS = [f"HTTP_X_FORWARDED_{name}" for name in ("FOR", "PROTO", "HOST", "PORT", "PREFIX")] + ["HTTP_FORWARDED"]
BEFORE = {
    "REMOTE_PORT": "1",
    "wsgi.url_scheme": "http",
    "HTTP_HOST": "inside",
    "SERVER_NAME": "inside",
    "SERVER_PORT": "80",
    "SCRIPT_NAME": "",
}


def one_input(data: bytes) -> None:
    """The first octet says which fields are there, the others are their values, parted by LF."""
    if not data:
        return
    values = data[1:].decode("latin-1").split("\n")
    fields = {
        key: value for number, (key, value) in enumerate(zip(KEYS, values, strict=False)) if data[0] >> number & 1
    }
    environ = {**BEFORE, **fields, "REMOTE_ADDR": "192.0.2.1"}
    PROXIES.apply(environ)
    assert environ == {**BEFORE, "REMOTE_ADDR": "192.0.2.1"}
    environ = {**BEFORE, **fields, "REMOTE_ADDR": "10.0.0.1"}
    PROXIES.apply(environ)
    ipaddress.ip_address(environ["REMOTE_ADDR"])
    assert environ["wsgi.url_scheme"] in {"http", "https"}
    assert grammar.is_authority(environ["HTTP_HOST"])
    assert 0 < int(environ["SERVER_PORT"]) <= 65535
    assert environ["SCRIPT_NAME"] == "" or environ["SCRIPT_NAME"].startswith("/")
    assert not environ["SCRIPT_NAME"].startswith("//")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
