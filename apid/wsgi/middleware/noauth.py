"""The noauth and noauth2 filters: no authentication; whoever asks says who they are. For tests and for behind a wall.

nova's: a request without X-Auth-Token is answered 204 with a token of the form `user:project`; a request with one is that user's.
With noauth everybody is an administrator, with noauth2 only the user `admin`. With both, every client of the listener can be an
administrator; so could a web page, whose name resolves to this address, in a browser that can connect. Therefore hosts that are
not in `allowed_hosts` are refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import request_uri

from apid.wsgi import context, faults, hostcheck, kinds
from apid.wsgi.factory import FilterFactory, filter_factory, option

ALIAS = "nova.context"
"""Where nova's own filters and extensions look for the context."""


HOST_ALLOWED = "apid.host_allowed"
"""Set by a server that has compared the host with a list of its own."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options(hostcheck.HostOptions):
    """What the ini section may say."""

    without_token: str = option(
        kinds.choice("issue", "serve"),
        default="issue",
        help="A request without a token: `issue` answers 204 with one, as nova; `serve` lets it through as user admin.",
    )


class NoAuth:
    """Believe the token.

    Attributes:
        apid_warning: for the log of the daemon that loads it.
    """

    def __init__(self, app: WSGIApplication, options: Options, *, all_admin: bool) -> None:
        self._app = app
        self._issue = options.without_token == "issue"  # noqa: S105 - an option's value, not a secret
        self._all_admin = all_admin
        name = "noauth" if all_admin else "noauth2"
        self.apid_warning = (
            f"the filter {name} asks for no credentials: every client of this listener can be an administrator"
        )
        self._hosts = hostcheck.HostCheck(options)
        self._by_default = options.allowed_hosts == hostcheck.DEFAULT

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        if not (self._by_default and environ.get(HOST_ALLOWED)) and (refusal := self._hosts.refusal(environ)):
            return faults.render(refusal, environ, start_response)
        token = environ.get("HTTP_X_AUTH_TOKEN")
        if token is None:
            if self._issue:
                return self._issue_token(environ, start_response)
            token = "admin:admin"  # noqa: S105 - says who, proves nothing
        user, _, project = token.partition(":")
        who = context.Context(
            user_id=user,
            project_id=project or user,
            roles=("admin",) if self._all_admin or user == "admin" else (),
            is_admin=self._all_admin or user == "admin",
            request_id=environ.get("openstack.request_id") or environ.get("apid.request_id") or "",
            global_request_id=environ.get("openstack.global_request_id"),
            auth_token=token,
        )
        environ[context.KEY] = environ[ALIAS] = who
        return self._app(environ, start_response)

    def _issue_token(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        user = environ.get("HTTP_X_AUTH_USER", "admin")
        project = environ.get("HTTP_X_AUTH_PROJECT_ID", "admin")
        url = request_uri(environ, include_query=False)
        if self._all_admin:  # nova's noauth2 leaves the project out of the URL
            url = f"{url.rstrip('/')}/{project}"
        headers = [("X-Auth-Token", f"{user}:{project}"), ("X-Server-Management-Url", url)]
        start_response("204 No Content", headers)
        return []


def _make(*, all_admin: bool) -> Callable[[WSGIApplication, Any], WSGIApplication]:
    return lambda app, options: NoAuth(app, options, all_admin=all_admin)


factory: FilterFactory = filter_factory("noauth", Options, _make(all_admin=True))
factory2: FilterFactory = filter_factory("noauth2", Options, _make(all_admin=False))
