"""The keystonecontext filter: from what authtoken wrote into the headers to the context that controllers read.

It stands behind authtoken, and refuses to work without it: the same headers from a client would be believed.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apid.wsgi import context, faults, kinds
from apid.wsgi.factory import filter_factory, option
from apid.wsgi.middleware.noauth import ALIAS

log = logging.getLogger(__name__)

_EXTRA = {
    "HTTP_X_USER_DOMAIN_ID": "user_domain_id",
    "HTTP_X_USER_DOMAIN_NAME": "user_domain_name",
    "HTTP_X_PROJECT_DOMAIN_ID": "project_domain_id",
    "HTTP_X_PROJECT_DOMAIN_NAME": "project_domain_name",
    "HTTP_X_DOMAIN_ID": "domain_id",
    "HTTP_X_DOMAIN_NAME": "domain_name",
    "HTTP_OPENSTACK_SYSTEM_SCOPE": "system_scope",
    "HTTP_X_IS_ADMIN_PROJECT": "is_admin_project",
    "HTTP_X_SERVICE_USER_ID": "service_user_id",
    "HTTP_X_SERVICE_USER_NAME": "service_user_name",
    "HTTP_X_SERVICE_PROJECT_ID": "service_project_id",
    "HTTP_X_SERVICE_ROLES": "service_roles",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say."""

    admin_roles: tuple[str, ...] = option(
        kinds.listed(kinds.word), default=("admin",), help="Whoever has one of these roles is an administrator."
    )
    require_authtoken: bool = option(
        kinds.boolean,
        default=True,
        help="Answer 500 when no authtoken filter ran before; false only where another filter sets these headers.",
    )


class KeystoneContext:
    """Make a context out of authtoken's headers, or answer 401."""

    def __init__(self, app: WSGIApplication, options: Options) -> None:
        self._app = app
        self._admin = frozenset(role.lower() for role in options.admin_roles)
        self._require = options.require_authtoken

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        if self._require and "keystone.token_auth" not in environ:
            log.error("keystonecontext: no authtoken filter stands before it in the pipeline; nobody is believed")
            return faults.render(faults.ApiError(), environ, start_response)
        try:
            who = self._context(environ)
        except ValueError:
            log.exception("keystonecontext: X-Service-Catalog is not JSON")
            return faults.render(faults.ApiError("Invalid service catalog json."), environ, start_response)
        if who is None:
            return faults.render(faults.Unauthorized(), environ, start_response)
        environ[context.KEY] = environ[ALIAS] = who
        return self._app(environ, start_response)

    def _context(self, environ: WSGIEnvironment) -> context.Context | None:
        def first(*names: str) -> str | None:
            return next((environ[name] for name in names if environ.get(name)), None)

        user = first("HTTP_X_USER_ID", "HTTP_X_USER")
        if user is None:
            return None
        said = first("HTTP_X_ROLES", "HTTP_X_ROLE") or ""
        roles = tuple(role.strip() for role in said.split(",") if role.strip())
        catalog = environ.get("HTTP_X_SERVICE_CATALOG")
        extra: dict[str, Any] = {name: environ[key] for key, name in _EXTRA.items() if environ.get(key)}
        extra["remote_address"] = environ.get("REMOTE_ADDR", "")
        return context.Context(
            user_id=user,
            user_name=first("HTTP_X_USER_NAME", "HTTP_X_USER"),
            project_id=first("HTTP_X_PROJECT_ID", "HTTP_X_TENANT_ID", "HTTP_X_TENANT"),
            project_name=first("HTTP_X_PROJECT_NAME", "HTTP_X_TENANT_NAME"),
            roles=roles,
            is_admin=any(role.lower() in self._admin for role in roles),
            request_id=environ.get("openstack.request_id") or environ.get("apid.request_id") or "",
            global_request_id=environ.get("openstack.global_request_id"),
            auth_token=first("HTTP_X_AUTH_TOKEN", "HTTP_X_STORAGE_TOKEN"),
            service_catalog=json.loads(catalog) if catalog else None,
            extra=extra,
        )


factory = filter_factory("keystonecontext", Options, KeystoneContext)
