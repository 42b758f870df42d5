"""The requestid filter: one id a request, in the environ and on every answer.

`openstack.request_id` is our own: the daemon's (`apid.request_id`) or a new one. What a client sends in X-Openstack-Request-Id is
kept apart as `openstack.global_request_id`, and only when it looks like an id, because it ends up in logs. The form of an id is
`apid.wsgi.requestid`'s.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apid.wsgi import kinds, requestid
from apid.wsgi.factory import filter_factory, option


def _field_name(value: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):  # RFC 9110, 5.1: a field name is a token
        raise ValueError(f"{value} is not")
    return value


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say."""

    compat_headers: tuple[str, ...] = option(
        kinds.listed(kinds.Kind("a header name", _field_name)),
        default=(),
        help="Further headers that carry the id out, such as x-compute-request-id (nova) or X-Trans-Id (swift).",
    )


class RequestId:
    """Give each request its id, and each answer the header."""

    def __init__(self, app: WSGIApplication, options: Options) -> None:
        self._app = app
        self._names = (requestid.HEADER, *options.compat_headers)
        self._lower = frozenset(name.lower() for name in self._names)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        own = environ["openstack.request_id"] = requestid.of(environ)
        inbound = environ.get("HTTP_X_OPENSTACK_REQUEST_ID")
        if inbound is not None and requestid.valid(inbound):
            environ["openstack.global_request_id"] = inbound
        names, lower = self._names, self._lower

        def start(status, headers, exc_info=None):  # type: ignore[no-untyped-def] # StartResponse is a protocol with an optional argument
            for name, _ in headers:
                if name.lower() in lower:  # the application set one: its own call elsewhere, or ours passed on
                    headers = [header for header in headers if header[0].lower() not in lower]
                    break
            return start_response(status, [*headers, *((name, own) for name in names)], exc_info)

        return self._app(environ, start)


factory = filter_factory("requestid", Options, RequestId)
