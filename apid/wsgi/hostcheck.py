"""The option `allowed_hosts` of filters and apps that ask for no credentials: a check of Host, against DNS rebinding.

A web page may let its own name resolve to this address. The browser then treats this server as the page's own, and the page may
read and send everything that its user may. The Host of such a request is the name of the page.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from apid.hosts import OWN_ADDRESS, AllowedHosts, parse_allowed
from apid.wsgi import faults, kinds
from apid.wsgi.factory import option

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment


DEFAULT = ("localhost", "127.0.0.1", "::1", OWN_ADDRESS)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """What the ini section may say about hosts."""

    allowed_hosts: tuple[str, ...] = option(
        kinds.listed(
            kinds.Kind("a host name or address without port, .example.org, *.example.org or *", parse_allowed)
        ),
        default=DEFAULT,
        help="Hosts under which it answers; by default loopback's, and the address on which the connection came in.",
    )


class HostCheck:
    """Tells which requests are not for this server."""

    def __init__(self, options: HostOptions) -> None:
        self._allowed = AllowedHosts(options.allowed_hosts)

    def refusal(self, environ: WSGIEnvironment) -> faults.ApiError | None:
        """The fault for a request with another Host, or None.

        A peer without an address came by a UNIX socket. A browser reaches it only by a proxy, which has to refuse foreign hosts.
        """
        host = environ.get("HTTP_HOST")
        if not environ.get("REMOTE_ADDR") or self._allowed.allows(host, environ.get("SERVER_NAME", "")):
            return None
        text = "This host is not in the option allowed_hosts of the Paste section that refuses the request."
        return faults.ApiError(text, code=421, error="host.not_allowed")
