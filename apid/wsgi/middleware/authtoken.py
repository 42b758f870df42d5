"""The authtoken filter: Keystone's tokens, checked by keystonemiddleware (the extra `apid[keystone]`).

Every option of keystonemiddleware's `[keystone_authtoken]` group and of the chosen auth plugin may stand in the section. Added
here: every header that authtoken may set is removed from what the client sent before it runs (its own list lacks
OpenStack-System-Scope, which matters with delay_auth_decision); an unknown option is an error instead of a warning in the log;
and its answers carry the request id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apid.wsgi import answer, faults, requestid
from apid.wsgi.factory import OptionError
from apid.wsgi.middleware.extras import needed

_NAME = "authtoken"
_IDENTITY = (
    "USER", "USER_ID", "USER_NAME", "USER_DOMAIN_ID", "USER_DOMAIN_NAME",
    "PROJECT_ID", "PROJECT_NAME", "PROJECT_DOMAIN_ID", "PROJECT_DOMAIN_NAME",
    "DOMAIN_ID", "DOMAIN_NAME", "TENANT", "TENANT_ID", "TENANT_NAME", "ROLE", "ROLES", "IDENTITY_STATUS",
)  # fmt: skip
SPOOFABLE = (
    *(f"HTTP_X_{name}" for name in _IDENTITY),
    *(f"HTTP_X_SERVICE_{name}" for name in _IDENTITY),
    "HTTP_X_SERVICE_CATALOG",
    "HTTP_X_IS_ADMIN_PROJECT",
    "HTTP_OPENSTACK_SYSTEM_SCOPE",
)
"""Environ keys that say who asks; only authtoken may set them. X-Auth-Token and X-Service-Token are the client's to send."""

_OF_THE_LOADER = frozenset({"oslo_config_project", "oslo_config_file", "oslo_config_config", "log_name"})


class AuthToken:
    """keystonemiddleware's AuthProtocol, with the client's identity headers removed before and its refusals made faults."""

    def __init__(self, app: WSGIApplication, protocol: Callable[[WSGIApplication], WSGIApplication]) -> None:
        self._app = app
        self._protocol = protocol(self._passed)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        for name in SPOOFABLE:
            if name in environ:
                del environ[name]
        answer_of = _Answer()
        environ["apid.authtoken"] = answer_of
        body = self._protocol(environ, answer_of.start)
        if answer_of.passed:
            answer_of.forward(start_response)
            return body
        close = getattr(body, "close", None)
        if close:
            close()
        return self._refuse(answer_of, environ, start_response)

    def _passed(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.pop("apid.authtoken").passed = True
        return self._app(environ, start_response)

    @staticmethod
    def _refuse(refusal: _Answer, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        code = int(refusal.status[:3])
        if code != 401:
            error = faults.Unavailable("The Keystone service is temporarily unavailable.", code=code)
            return faults.render(error, environ, start_response)
        # Keystone's own shape of this fault, which its clients know, with the request id in it
        inner = {
            "code": 401,
            "title": "Unauthorized",
            "message": "The request you have made requires authentication.",
            "request_id": requestid.of(environ),
        }
        headers = [header for header in refusal.headers if header[0].lower() == "www-authenticate"]
        return answer.send_json(environ, start_response, 401, {"error": inner}, headers)


class _Answer:
    """The start of an answer, held back until it is known whose it is. WebOb starts it before the body is returned."""

    __slots__ = ("exc_info", "headers", "passed", "status")

    def __init__(self) -> None:
        self.passed = False
        self.status = "500 Internal Server Error"
        self.headers: list[tuple[str, str]] = []
        self.exc_info: Any = None

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        self.status, self.headers, self.exc_info = status, headers, exc_info
        return self._write

    @staticmethod
    def _write(_: bytes) -> object:
        raise AssertionError("WebOb's responses do not call write()")

    def forward(self, start_response: StartResponse) -> None:
        start_response(self.status, self.headers, self.exc_info)


def _known(middleware: Any, conf: Mapping[str, Any]) -> Iterator[str]:
    loading = needed("keystoneauth1.loading", _NAME, "keystone")
    options = [entry for _, entries in middleware.list_opts() for entry in entries]
    options += loading.get_auth_common_conf_options()
    if conf.get("auth_type") or conf.get("auth_plugin"):
        plugin = str(conf.get("auth_type") or conf.get("auth_plugin"))
        exceptions = needed("keystoneauth1.exceptions", _NAME, "keystone")
        try:
            loader = loading.get_plugin_loader(plugin)
        except exceptions.NoMatchingPlugin:
            names = ", ".join(sorted(loading.get_available_plugin_names()))
            raise OptionError(_NAME, "auth_type", plugin, f"must be one of {names}") from None
        options += loading.get_auth_plugin_conf_options(loader)
    for entry in options:
        yield entry.dest
        yield entry.name
        for old in entry.deprecated_opts:
            yield str(old.name)


def factory(
    global_conf: Mapping[str, Any] | None = None, **local_conf: Any
) -> Callable[[WSGIApplication], WSGIApplication]:
    """The paste.filter_factory.

    Raises:
        ExtraMissingError: keystonemiddleware is not installed.
        OptionError: an option is neither keystonemiddleware's nor the auth plugin's, or its value is wrong.
    """
    middleware = needed("keystonemiddleware.auth_token", _NAME, "keystone")
    known = {*_known(middleware, local_conf), *_OF_THE_LOADER}
    for key in local_conf:  # its value may be a password
        if key not in known:
            raise OptionError(
                _NAME, key, None, "is not known to keystonemiddleware nor to the auth plugin of auth_type"
            )
    conf = {**(global_conf or {}), **local_conf}

    def protocol(app: WSGIApplication) -> WSGIApplication:
        made: WSGIApplication = middleware.AuthProtocol(app, dict(conf))
        return made

    return lambda app: AuthToken(app, protocol)
