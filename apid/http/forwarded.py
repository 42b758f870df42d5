"""What trusted proxies tell about the client: `X-Forwarded-*` and RFC 7239 `Forwarded`, applied to an environ.

Pure, and never raises: a field that makes no sense is ignored. The rules, which docs/HTTP_PARSING.md gives to operators:

- A field counts only if the peer of the connection is in trusted_proxies (the peer of a UNIX socket is: the file's mode says
  who may connect). From any other peer all these fields are removed, so that no middleware believes them later.
- The client is found from right to left: each trusted proxy vouches for the address before it; the first that is not trusted
  is the client, whatever stands left of it. An address that cannot be read ends the walk at the proxy that wrote it.
- Of a list in another field the element counts that the outermost trusted proxy wrote.
- If any X-Forwarded-* field is there, `Forwarded` does not count: the common proxies write the former and let the latter pass
  from the client. Who has a proxy that writes `Forwarded` has it remove the others.
- What was applied stays in the environ as the one value that counts, but for the prefix, which would be applied twice.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable
from typing import Any

from apid.conf.settings import Network
from apid.http import grammar, target

Environ = dict[str, Any]

FIELDS = ("FOR", "PROTO", "HOST", "PORT", "PREFIX")
"""The X-Forwarded-* fields that are understood."""

UNKNOWN_PORT = "0"
"""REMOTE_PORT where only the client's address is known."""

_KEYS = tuple(f"HTTP_X_FORWARDED_{name}" for name in FIELDS)
_MAX_HOPS = 64
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_PREFIX = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})+)+/?")
_PORT = re.compile(r"[0-9]{1,5}")
_T = grammar.TOKEN
# RFC 7239 §4; one pair with what separates it from the next. Whitespace around `;` is not in the grammar but common.
_PAIR = re.compile(rf'[ \t]*+(?:({_T}++)=(?:({_T}++)|"((?:[^"\\]|\\.)*+)"))?[ \t]*+(;|,|\Z)')


class TrustedProxies:
    """The networks whose hosts are believed, ready to be asked once a request."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)
        # Peers are few and come again; the bound keeps a list of forged addresses from growing it.
        self._known = functools.lru_cache(maxsize=1024)(self._contains)

    def __bool__(self) -> bool:
        """Whether any proxy is trusted; if not, `apply` need not be called."""
        return bool(self._networks)

    def trusts(self, address: str) -> bool:
        """Whether a peer is believed; the empty address is a UNIX socket's."""
        return self._known(address)

    def _contains(self, address: str) -> bool:
        if not address:
            return bool(self._networks)
        found = _address(address)
        return found is not None and any(found in network for network in self._networks)

    def apply(self, environ: Environ) -> None:
        """Let REMOTE_ADDR, REMOTE_PORT, wsgi.url_scheme, HTTP_HOST, SERVER_NAME, SERVER_PORT, SCRIPT_NAME tell of the client.

        Args:
            environ: of a request, REMOTE_ADDR being the connection's peer (or what the PROXY protocol said); changed in place.
        """
        told = [key for key in _KEYS if key in environ]
        if not told and "HTTP_FORWARDED" not in environ:
            return
        if not self.trusts(environ.get("REMOTE_ADDR", "")):
            for key in (*told, "HTTP_FORWARDED"):
                environ.pop(key, None)
        elif told:
            environ.pop("HTTP_FORWARDED", None)
            self._apply_x(environ)
        else:
            self._apply_standard(environ)

    def _apply_x(self, environ: Environ) -> None:
        lists = {key: _elements(environ.pop(key)) for key in _KEYS if key in environ}
        chain = lists.pop(_KEYS[0], [])
        hops = self._client(environ, chain)
        if chain:
            environ[_KEYS[0]] = ", ".join(chain[-hops:])
        told = {key: values[-hops] if len(values) >= hops else values[0] for key, values in lists.items() if values}
        scheme, host, port, prefix = (told.get(key, "") for key in _KEYS[1:])
        for key in _KEYS[1:4]:
            if key in told:
                environ[key] = told[key]
        _set_url(environ, scheme, host, port)
        if _PREFIX.fullmatch(prefix) and "%00" not in prefix:
            environ["SCRIPT_NAME"] = target.unescape(prefix.rstrip("/"))

    def _apply_standard(self, environ: Environ) -> None:
        elements = _parse_forwarded(environ["HTTP_FORWARDED"])
        if not elements:
            return
        hops = self._client(environ, [element.get("for", "") for element in elements])
        element = elements[-hops] if len(elements) >= hops else elements[0]
        _set_url(environ, element.get("proto", ""), element.get("host", ""), "")

    def _client(self, environ: Environ, chain: list[str]) -> int:
        """Walk the chain from its right end and set the client's address.

        Returns:
            How many trusted proxies stand between here and the client: at least the peer itself.
        """
        hops = 0
        for node in reversed(chain[-_MAX_HOPS:]):
            found = _node(node)
            if found is None:
                break
            hops += 1
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = found
            if not self.trusts(found[0]):
                break
        return max(1, hops)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if found.version == 6 and found.ipv4_mapped is not None:
        return found.ipv4_mapped  # a dual-stack socket's spelling of an IPv4 peer
    return found


def _node(text: str) -> tuple[str, str] | None:
    """Read `address`, `address:port`, `[v6]`, `[v6]:port` (RFC 7239 §6); None for `unknown`, `_hidden` and nonsense."""
    host, port = text, ""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    found = _address(host)
    if found is None or "%" in host:
        return None
    known = _PORT.fullmatch(port) is not None and int(port) <= 65535
    if port and not known and not port.startswith("_"):  # RFC 7239 §6.1: a port may be obfuscated
        return None
    return str(found), str(int(port)) if known else UNKNOWN_PORT


def _elements(value: str) -> list[str]:
    return [element.strip(" \t") for element in value.split(",")]


def _parse_forwarded(value: str) -> list[dict[str, str]]:
    """Read RFC 7239 §4 strictly: one malformed pair and nothing of the field is believed."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while True:
        found = _PAIR.match(value, at)
        if found is None:
            return []
        name, plain, quoted, end = found.groups()
        if name is not None:
            if name.lower() in elements[-1]:
                return []
            elements[-1][name.lower()] = plain if plain is not None else re.sub(r"\\(.)", r"\1", quoted)
        if not end:
            return [element for element in elements if element]
        if end == ",":
            elements.append({})
        at = found.end()


def _set_url(environ: Environ, scheme: str, host: str, port: str) -> None:
    scheme = scheme.lower()
    if scheme in _DEFAULT_PORTS:
        environ["wsgi.url_scheme"] = scheme
    if not _is_port(port):
        port = ""
    name, own_port = _split(host.removesuffix(":"))
    # Port 0 is in the grammar of an authority (RFC 3986 §3.2.3), but nobody can have connected to it.
    if grammar.is_authority(host) and (not own_port or _is_port(own_port)):
        host = host.removesuffix(":")
        if own_port:
            port = own_port
        elif port and port != _DEFAULT_PORTS.get(environ["wsgi.url_scheme"]):
            host = f"{name}:{port}"
        environ["HTTP_HOST"] = host
        environ["SERVER_NAME"] = name
    if port:
        environ["SERVER_PORT"] = port


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and 0 < int(text) <= 65535


def _split(authority: str) -> tuple[str, str]:
    name, colon, port = authority.rpartition(":")
    return (name, port) if colon and not port.endswith("]") else (authority, "")
