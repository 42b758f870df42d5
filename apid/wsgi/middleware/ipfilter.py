"""The ipfilter filter: which addresses may ask at all.

It looks at REMOTE_ADDR, which is the client's own after `trusted_proxies` of the daemon or the proxyheaders filter, and never at
a header. `deny` wins over `allow`; without `allow` everybody else may. A client whose address is unknown is let through only
without both: it may be one that is denied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apid.hosts import address_of
from apid.wsgi import faults, kinds
from apid.wsgi.factory import filter_factory, option

_REMEMBERED = 4096
"""Verdicts kept by address: parsing one costs 2 µs. The number bounds the memory at about half a megabyte."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say."""

    allow: tuple[kinds.Network, ...] = option(
        kinds.networks, default=(), help="Networks that may ask; without any, all that are not denied."
    )
    deny: tuple[kinds.Network, ...] = option(
        kinds.networks, default=(), help="Networks that may not, even when allowed."
    )
    allow_unix: bool = option(
        kinds.boolean,
        default=False,
        help="Whether a peer without an address (a UNIX socket) may ask although `allow` is given.",
    )


class IpFilter:
    """Let an address through, or answer 403."""

    def __init__(self, app: WSGIApplication, options: Options) -> None:
        self._app = app
        self._options = options
        self._verdicts: dict[str, bool] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        peer = environ.get("REMOTE_ADDR", "")
        may = self._verdicts.get(peer)
        if may is None:
            may = self._remember(peer)
        if may:
            return self._app(environ, start_response)
        return faults.render(faults.Forbidden("Your address may not use this service."), environ, start_response)

    def _remember(self, peer: str) -> bool:
        if len(self._verdicts) >= _REMEMBERED:
            self._verdicts.clear()
        self._verdicts[peer] = verdict = self.allows(peer)
        return verdict

    def allows(self, peer: str) -> bool:
        """Tell whether a peer may ask."""
        allow, deny = self._options.allow, self._options.deny
        if not peer:
            return not allow or self._options.allow_unix
        address = address_of(peer)
        if address is None:
            return not allow and not deny
        if any(address in network for network in deny):
            return False
        return not allow or any(address in network for network in allow)


factory = filter_factory("ipfilter", Options, IpFilter)
