"""What trusted proxies tell about the client: `X-Forwarded-*` and RFC 7239 `Forwarded`, applied to an environ.

Pure, and never raises: a field that makes no sense is ignored. The ground of both towers: the daemon applies it with the options
`trusted_proxies` and `trusted_proxy_headers`, the toolkit's proxyheaders filter with the same ones under any server. Standard
library only. The rules, which docs/HTTP_PARSING.md gives to operators:

- A field counts only if the peer of the connection is in trusted_proxies (the peer of a UNIX socket is: the file's mode says
  who may connect). From any other peer all these fields are removed, so that no middleware believes them later.
- It counts only if it is named in trusted_proxy_headers: a proxy passes on from the client what it does not set. Those that are
  not named are removed. `Forwarded` excludes the others: of two accounts that contradict each other one is the client's.
- The client is found from right to left: each trusted proxy vouches for the address before it; the first that is not trusted
  is the client, whatever stands left of it. An address that cannot be read ends the walk at the proxy that wrote it.
- Of a list in another field the element counts that the outermost trusted proxy wrote.
- What was applied stays in the environ as the one value that counts, but for the prefix, which would be applied twice.
"""

from __future__ import annotations

import functools
import re
import urllib.parse
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from apid import hosts

Environ = dict[str, Any]

FORWARDED = "forwarded"
HEADERS = (
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-real-ip",
    FORWARDED,
)
"""The fields that can be believed. X-Real-Ip is only passed on, or removed: applications read it, and here the chain counts."""

DEFAULT_HEADERS = HEADERS[:2]
"""What every common proxy sets."""

UNKNOWN_PORT = "0"
"""REMOTE_PORT where only the client's address is known."""


def _key(name: str) -> str:
    return "HTTP_" + name.upper().replace("-", "_")


_ALL = tuple(_key(name) for name in HEADERS)
_FOR, _PROTO, _HOST, _PORT_KEY, _PREFIX_KEY, _, _FORWARDED = _ALL
_MAX_HOPS = 64
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_PREFIX = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})+)+/?")
_PORT = re.compile(r"[0-9]{1,5}")
_T = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110 §5.6.2 tchar
# RFC 7239 §4; one pair with what separates it from the next. Whitespace around `;` is not in the grammar but common.
_PAIR = re.compile(rf'[ \t]*+(?:({_T}++)=(?:({_T}++)|"((?:[^"\\]|\\.)*+)"))?[ \t]*+(;|,|\Z)')


def check_headers(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check which fields are to be believed.

    Args:
        names: of HEADERS, in any case.

    Returns:
        The names in lower case.

    Raises:
        ValueError: a name is unknown, or `forwarded` stands beside others.
    """
    lower = tuple(name.lower() for name in names)
    unknown = [name for name in lower if name not in HEADERS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is none of the fields that can be believed: {', '.join(HEADERS)}")
    if FORWARDED in lower and len(set(lower)) > 1:
        raise ValueError("forwarded says all that the others say: name either it or them, whichever your proxies set")
    return lower


class TrustedProxies:
    """The networks whose hosts are believed, ready to be asked once a request.

    Args:
        networks: of the proxies; with none, no peer is believed.
        headers: the fields that these proxies set, as `check_headers` returns them.
    """

    def __init__(
        self, networks: Iterable[IPv4Network | IPv6Network], headers: tuple[str, ...] = DEFAULT_HEADERS
    ) -> None:
        self._networks = tuple(networks)
        self._others = frozenset(_key(name) for name in HEADERS if name not in headers)
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
        found = hosts.address_of(address)
        return found is not None and any(found in network for network in self._networks)

    def apply(self, environ: Environ) -> None:
        """Let REMOTE_ADDR, REMOTE_PORT, wsgi.url_scheme, HTTP_HOST, SERVER_NAME, SERVER_PORT, SCRIPT_NAME tell of the client.

        Args:
            environ: of a request, REMOTE_ADDR being the connection's peer (or what the PROXY protocol said); changed in place.
        """
        told = [key for key in _ALL if key in environ]
        if not told:
            return
        trusted = self.trusts(environ.get("REMOTE_ADDR", ""))
        for key in told:
            if not trusted or key in self._others:
                del environ[key]
        if not trusted:
            return
        if _FORWARDED in environ:
            self._apply_standard(environ)
        else:
            self._apply_x(environ)

    def _apply_x(self, environ: Environ) -> None:
        lists = {key: _elements(environ.pop(key)) for key in _ALL[:5] if key in environ}
        chain = lists.pop(_FOR, [])
        hops = self._client(environ, chain)
        if chain:
            environ[_FOR] = ", ".join(chain[-hops:])
        told = {key: values[-hops] if len(values) >= hops else values[0] for key, values in lists.items() if values}
        prefix = told.pop(_PREFIX_KEY, "")
        environ.update(told)
        _set_url(environ, told.get(_PROTO, ""), told.get(_HOST, ""), told.get(_PORT_KEY, ""))
        if _PREFIX.fullmatch(prefix) and "%00" not in prefix:
            mount = urllib.parse.unquote_to_bytes(prefix.rstrip("/")).decode("latin-1")
            environ["SCRIPT_NAME"] = mount + environ.get("SCRIPT_NAME", "")  # a filter may stand behind a urlmap

    def _apply_standard(self, environ: Environ) -> None:
        elements = parse(environ.pop(_FORWARDED))
        if not elements:
            return
        hops = self._client(environ, [element.get("for", "") for element in elements])
        element = elements[-hops] if len(elements) >= hops else elements[0]
        environ[_FORWARDED] = ", ".join(map(_spelled, elements[-hops:]))
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
    found = hosts.address_of(host)
    if found is None or "%" in host:
        return None
    known = _PORT.fullmatch(port) is not None and int(port) <= 65535
    if port and not known and not port.startswith("_"):  # RFC 7239 §6.1: a port may be obfuscated
        return None
    return str(found), str(int(port)) if known else UNKNOWN_PORT


def _elements(value: str) -> list[str]:
    return [element.strip(" \t") for element in value.split(",")]


def parse(value: str) -> list[dict[str, str]]:
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


def _spelled(element: dict[str, str]) -> str:
    return ";".join('{}="{}"'.format(name, re.sub(r'(["\\])', r"\\\1", value)) for name, value in element.items())


def _set_url(environ: Environ, scheme: str, host: str, port: str) -> None:
    scheme = scheme.lower()
    if scheme in _DEFAULT_PORTS:
        environ["wsgi.url_scheme"] = scheme
    if not _is_port(port):
        port = ""
    name, own_port = hosts.split(host.removesuffix(":"))
    # Port 0 is in the grammar of an authority (RFC 3986 §3.2.3), but nobody can have connected to it.
    if hosts.is_authority(host) and (not own_port or _is_port(own_port)):
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
