"""The proxyheaders filter: who the client is, when proxies that we trust stand before us.

For the case that the server does not do it (apid's daemon does, with `trusted_proxies`: then this filter finds the client's own
address and has nothing to do). Headers are believed only hop by hop: from the peer backwards through the chain, each address
must be in the trusted networks, and the first that is not is the client (RFC 7239, 7.4; the leftmost entry is whatever the client
wrote). From a peer that is not trusted, and in the family that is not configured, the headers are removed, so that no
application behind believes them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apid.wsgi import kinds
from apid.wsgi.factory import filter_factory, option
from apid.wsgi.middleware.ipfilter import address_of

_X_FORWARDED = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_X_REAL_IP",
)
_ALL = (*_X_FORWARDED, "HTTP_FORWARDED")
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")
_PAIR = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*([;,]|$)')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say."""

    trusted_proxies: tuple[kinds.Network, ...] = option(
        kinds.networks, default=(), help="Networks whose forwarding headers are believed; without any, no header is."
    )
    trust_unix: bool = option(
        kinds.boolean, default=False, help="Whether a peer on a UNIX socket, which has no address, is a trusted proxy."
    )
    headers: str = option(
        kinds.choice("x-forwarded", "forwarded"),
        default="x-forwarded",
        help="The family that the proxies set; the other one may come from the client and is removed.",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Told:
    """What the trusted part of the chain says of the client's side."""

    address: str = ""
    proto: str = ""
    host: str = ""


class ProxyHeaders:
    """Put the client's address, scheme, host and prefix into the environ, as far as trusted proxies tell them."""

    def __init__(self, app: WSGIApplication, options: Options) -> None:
        self._app = app
        self._networks = options.trusted_proxies
        self._trust_unix = options.trust_unix
        self._forwarded = options.headers == "forwarded"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        for name in _ALL:
            if name in environ:
                self._apply(environ)
                break
        return self._app(environ, start_response)

    def _apply(self, environ: WSGIEnvironment) -> None:
        if self._trusted(environ.get("REMOTE_ADDR", "")):
            told = self._from_forwarded(environ) if self._forwarded else self._from_x_forwarded(environ)
            if told.address:
                environ["REMOTE_ADDR"] = told.address
            if told.proto.lower() in ("http", "https"):
                environ["wsgi.url_scheme"] = told.proto.lower()
            if _HOST.fullmatch(told.host):
                environ["HTTP_HOST"] = told.host
            prefix = environ.get("HTTP_X_FORWARDED_PREFIX", "").rstrip("/")
            if not self._forwarded and _PREFIX.fullmatch(prefix):
                environ["SCRIPT_NAME"] = prefix + environ.get("SCRIPT_NAME", "")
            untold: tuple[str, ...] = _X_FORWARDED if self._forwarded else ("HTTP_FORWARDED",)
        else:
            untold = _ALL
        for name in untold:
            environ.pop(name, None)

    def _trusted(self, text: str) -> bool:
        address = address_of(text)
        if address is None:
            return self._trust_unix
        return any(address in network for network in self._networks)

    def _from_x_forwarded(self, environ: WSGIEnvironment) -> _Told:
        hops = _split(environ.get("HTTP_X_FORWARDED_FOR", ""))
        client, count = self._client(hops)

        def same_hop(name: str) -> str:
            # every proxy of the chain appends, or only the outermost sets one value: either way this entry is not the client's
            entries = _split(environ.get(name, ""))
            return entries[-min(count, len(entries))] if entries else ""

        host = same_hop("HTTP_X_FORWARDED_HOST")
        port = same_hop("HTTP_X_FORWARDED_PORT")
        if host and port.isdigit() and not re.search(r":[0-9]+$", host):
            host = f"{host}:{port}"
        return _Told(client, same_hop("HTTP_X_FORWARDED_PROTO"), host)

    def _from_forwarded(self, environ: WSGIEnvironment) -> _Told:
        elements = parse_forwarded(environ.get("HTTP_FORWARDED", ""))
        if not elements:
            return _Told()
        client, count = self._client([_node(element.get("for", "")) for element in elements])
        element = elements[-count]
        return _Told(client, element.get("proto", ""), element.get("host", ""))

    def _client(self, hops: list[str]) -> tuple[str, int]:
        """Return the client's address (empty: not told) and how many entries from the right it stands."""
        told = ""
        for count, hop in enumerate(reversed(hops), 1):
            address = address_of(_without_port(hop))
            if (
                address is None
            ):  # "unknown", an obfuscated name (RFC 7239, 6), nonsense: what stands left of it is hearsay
                return told, count
            told = str(address)
            if not any(address in network for network in self._networks):
                return told, count
        return told, max(1, len(hops))


def _split(value: str) -> list[str]:
    return [part.strip() for part in value.split(",")] if value else []


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _node(text: str) -> str:
    """The address of a node identifier (RFC 7239, 6): brackets around IPv6, perhaps a port."""
    return _without_port(text)


def parse_forwarded(value: str) -> list[dict[str, str]]:
    """Return the elements of a Forwarded header (RFC 7239, 4), nearest proxy last; [] when it is not one."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at < len(value):
        pair = _PAIR.match(value, at)
        if not pair:
            return []
        name, text, end = pair.group(1).lower(), pair.group(2), pair.group(3)
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        if name in elements[-1]:  # RFC 7239, 4: a parameter once an element
            return []
        elements[-1][name] = text
        if end == ",":
            elements.append({})
        at = pair.end()
    return [element for element in elements if element]


factory = filter_factory("proxyheaders", Options, ProxyHeaders)
