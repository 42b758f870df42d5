"""The proxyheaders filter: who the client is, when proxies that we trust stand before us.

For the case that the server does not do it (apid's daemon does, with its options of the same names: then this filter finds the
client's own address and has nothing to do). The rules are those of `apid.forwarded`, which daemon and filter share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apid import forwarded
from apid.wsgi import kinds
from apid.wsgi.factory import filter_factory, option

_NAMES: kinds.Kind[tuple[str, ...]] = kinds.listed(kinds.word)


def _headers(value: str) -> tuple[str, ...]:
    return forwarded.check_headers(_NAMES.convert(value))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say."""

    trusted_proxies: tuple[kinds.Network, ...] = option(
        kinds.networks, default=(), help="Networks whose forwarding headers are believed; without any, no header is."
    )
    trusted_proxy_headers: tuple[str, ...] = option(
        kinds.Kind("a list of forwarding headers", _headers),
        default=forwarded.DEFAULT_HEADERS,
        help="The headers that these proxies set; the others may come from the client and are removed.",
    )


class ProxyHeaders:
    """Put the client's address, scheme, host and prefix into the environ, as far as trusted proxies tell them."""

    def __init__(self, app: WSGIApplication, options: Options) -> None:
        self._app = app
        self._trusted = forwarded.TrustedProxies(options.trusted_proxies, options.trusted_proxy_headers)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        self._trusted.apply(environ)
        return self._app(environ, start_response)


factory = filter_factory("proxyheaders", Options, ProxyHeaders)
