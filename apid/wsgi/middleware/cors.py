"""The cors filter: oslo.middleware's CORS (the extra `apid[cors]`), with typed options; requests without Origin pass it by."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apid.wsgi import kinds
from apid.wsgi.factory import filter_factory, option
from apid.wsgi.middleware.extras import needed

_METHODS = ("OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "PATCH")


def _origin(value: str) -> str:
    if value != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", value):
        raise ValueError(f"{value} is not")
    return value


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say; oslo.middleware's names and defaults."""

    allowed_origin: tuple[str, ...] = option(
        kinds.listed(
            kinds.Kind("an origin such as https://horizon.example.com, without a slash at the end, or *", _origin)
        ),
        help="The origins that scripts may come from.",
    )
    allow_credentials: bool = option(kinds.boolean, default=True, help="Whether a request may carry credentials.")
    expose_headers: tuple[str, ...] = option(
        kinds.listed(kinds.word), default=(), help="Headers of the answer that scripts may read."
    )
    max_age: int = option(
        kinds.integer(minimum=0), default=3600, help="Seconds for which a preflight answer may be kept."
    )
    allow_methods: tuple[str, ...] = option(
        kinds.listed(kinds.word), default=_METHODS, help="Methods that scripts may use."
    )
    allow_headers: tuple[str, ...] = option(
        kinds.listed(kinds.word), default=(), help="Headers that scripts may send, such as X-Auth-Token."
    )


class Cors:
    """Requests with an Origin go through oslo.middleware's filter, all others straight to the application."""

    def __init__(self, app: WSGIApplication, options: Options) -> None:
        self._app = app
        self._cors = _oslo_cors(app, options)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        if "HTTP_ORIGIN" in environ:
            return self._cors(environ, start_response)
        return self._app(environ, start_response)


def _oslo_cors(app: WSGIApplication, options: Options) -> WSGIApplication:
    cfg = needed("oslo_config.cfg", "cors", "cors")
    made = needed("oslo_middleware.cors", "cors", "cors").CORS(app, cfg.ConfigOpts())  # not the process-wide CONF
    made.add_origin(
        allowed_origin=list(options.allowed_origin),
        allow_credentials=options.allow_credentials,
        expose_headers=list(options.expose_headers),
        max_age=options.max_age,
        allow_methods=list(options.allow_methods),
        allow_headers=list(options.allow_headers),
    )
    wsgi: WSGIApplication = made
    return wsgi


factory = filter_factory("cors", Options, Cors)
