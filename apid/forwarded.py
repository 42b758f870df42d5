"""What trusted proxies tell about the client: `X-Forwarded-*` and RFC 7239 `Forwarded`, applied to an environ.

Pure, and never raises. The ground of both towers: the daemon applies it with the options `trusted_proxies` and
`trusted_proxy_headers`, the toolkit's proxyheaders filter with the same ones under any server. Standard library only. The rules,
which docs/HTTP_PARSING.md gives to operators:

- A field counts only if the peer of the connection is in trusted_proxies (the peer of a UNIX socket is: the file's mode says
  who may connect). From any other peer all these fields are removed, so that no middleware believes them later.
- It counts only if it is named in trusted_proxy_headers: a proxy passes on from the client what it does not set. Those that are
  not named are removed. `Forwarded` excludes the others: of two accounts that contradict each other one is the client's.
- The client is found from right to left, element by element: each trusted proxy vouches for the address to its left; the first
  address that is not trusted is the client's. Nothing left of it is read, so that a client cannot spoil the account of a proxy,
  which appends to whatever it received.
- If the walk reaches an element that cannot be read, the client is UNKNOWN: its address is never taken to be the proxy's.
- Of a list in another field the element of the outermost trusted proxy counts.
- What was applied stays in the environ as the one value that counts, but for the prefix, which would be applied twice.
"""

from __future__ import annotations

import functools
import re
import urllib.parse
from collections.abc import Iterable, Iterator
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

UNKNOWN = "unknown"
"""REMOTE_ADDR of a client whose address cannot be read.

It is in no network, hence neither trusted nor allowed, and differs from the empty address of a UNIX socket's peer.
"""

PROXIED = "apid.proxied"
"""Key of the environ: True where a proxy has passed the request on, or where the request says so.

It outlasts the fields, which are removed where they are not believed.
"""

UNKNOWN_PORT = "0"
"""REMOTE_PORT where the client's port is not known."""


def _key(name: str) -> str:
    return "HTTP_" + name.upper().replace("-", "_")


_ALL = tuple(_key(name) for name in HEADERS)
_FOR, _PROTO, _HOST, _PORT_KEY, _PREFIX_KEY, _, _FORWARDED = _ALL
_MOST = 64
"""Elements that are followed; the client behind a longer chain of trusted proxies is UNKNOWN."""
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_PREFIX = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})+)+/?")
_PORT = re.compile(r"[0-9]{1,5}")
# RFC 7239 §6; the bare IPv6 address is X-Forwarded-For's.
_NODE = re.compile(
    r"(?:([0-9.]+)|\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\])(?::(?:([0-9]{1,5})|_[A-Za-z0-9._\-]+))?"
    r"|([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)"
)
_T = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110 §5.6.2 tchar
# RFC 7239 §4, mirrored: one pair from its last octet to its first, and what separates it from the pair to its left. In a
# mirrored quoted-string an odd number of backslashes follows an escaped quote, none follows the opening one, and an even number
# the closing one. Whitespace around `;` is not in the grammar but common.
_PAIR = re.compile(rf'[ \t]*+(?:(?:({_T}++)|"((?:\\\\)*+(?:"\\(?:\\\\)*+|[^"\\]\\*+)*+)")=({_T}++))?[ \t]*+(;|,|\Z)')


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
        peer = environ.get("REMOTE_ADDR", "")
        if peer.startswith(hosts.MAPPED):
            peer = environ["REMOTE_ADDR"] = hosts.one_spelling(peer)
        told = [key for key in _ALL if key in environ]
        if not told:
            return
        environ[PROXIED] = True
        trusted = self.trusts(peer)
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
        lists = {key: _from_right(environ.pop(key)) for key in _ALL[:5] if key in environ}
        chain: list[str] = []
        for node in lists.pop(_FOR, []):
            chain.append(node)
            if not self._follow(environ, _node(node, bare=True), len(chain)):
                break
        if chain:
            if environ["REMOTE_ADDR"] == UNKNOWN:
                chain[-1] = UNKNOWN
            environ[_FOR] = ", ".join(reversed(chain))
        hops = max(1, len(chain))
        told = {key: values[min(hops, len(values)) - 1] for key, values in lists.items()}
        prefix = told.pop(_PREFIX_KEY, "")
        environ.update(told)
        _set_url(environ, told.get(_PROTO, ""), told.get(_HOST, ""), told.get(_PORT_KEY, ""))
        if _PREFIX.fullmatch(prefix) and "%00" not in prefix:
            mount = urllib.parse.unquote_to_bytes(prefix.rstrip("/")).decode("latin-1")
            environ["SCRIPT_NAME"] = mount + environ.get("SCRIPT_NAME", "")  # a filter may stand behind a urlmap

    def _apply_standard(self, environ: Environ) -> None:
        elements: list[dict[str, str]] = []
        for element in elements_from_right(environ[_FORWARDED]):
            elements.append(element)
            if not self._follow(environ, _node(element.get("for", ""), bare=False), len(elements)):
                break
        outermost = elements[-1]
        if environ["REMOTE_ADDR"] == UNKNOWN:
            outermost["for"] = UNKNOWN
        environ[_FORWARDED] = ", ".join(map(_spelled, reversed(elements)))
        _set_url(environ, outermost.get("proto", ""), outermost.get("host", ""), "")

    def _follow(self, environ: Environ, node: tuple[str, str] | None, hop: int) -> bool:
        """Take the next node of the chain for the client; returns whether it is a trusted proxy, whose account comes next."""
        if hop > _MOST:
            node = None
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = node or (UNKNOWN, UNKNOWN_PORT)
        return node is not None and self.trusts(node[0])


def remove(environ: Environ) -> None:
    """Remove all fields of HEADERS from an environ."""
    for key in _ALL:
        environ.pop(key, None)


def _node(text: str, *, bare: bool) -> tuple[str, str] | None:
    """Read an address and a port (RFC 7239 §6).

    Args:
        text: `v4`, `v4:port`, `[v6]` or `[v6]:port`.
        bare: whether `v6` without brackets is one, too.

    Returns:
        Address and port in their one spelling; None for `unknown`, `_hidden` and anything else.
    """
    found = _NODE.fullmatch(text)
    if found is None or (found[4] and not bare):
        return None
    address = hosts.address_of(found[1] or found[2] or found[4])
    port = found[3] or UNKNOWN_PORT
    return None if address is None or int(port) > 65535 else (str(address), str(int(port)))


def _from_right(value: str) -> list[str]:
    """Split a list, the last element first; elements that no walk reaches stay one text."""
    return [element.strip(" \t") for element in reversed(value.rsplit(",", _MOST + 1))]


def elements_from_right(value: str) -> Iterator[dict[str, str]]:
    """Read the elements of a Forwarded field (RFC 7239 §4) from the last to the first.

    Nothing left of an element is read to find it: a client may have left a quote open there.

    Yields:
        The pairs of an element by their names in lower case. A malformed element, the last that is given, has none.
    """
    mirrored = value[::-1]
    at, separator = 0, ","
    while separator:
        pairs: list[tuple[str, str]] = []
        separator = ";"
        while separator == ";":
            found = _PAIR.match(mirrored, at)
            if found is None:
                yield {}
                return
            at, separator = found.end(), found[4]
            if found[3] is not None:
                plain, quoted, name = (group and group[::-1] for group in found.groups()[:3])
                pairs.append((name.lower(), plain or re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)))
        element = dict(reversed(pairs))
        if len(element) < len(pairs):  # a parameter occurs twice
            yield {}
            return
        yield element


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
