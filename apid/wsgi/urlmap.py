"""The urlmap composite: path, domain and port prefixes to applications, and nova's choice of a version by media type.

    [composite:main]
    use = egg:apid#urlmap
    / = versions
    /v1 = api_v1
    domain admin.example.org /v1 = admin_v1

The first match wins, an explicit domain before any, a longer path before a shorter one. `/x/+` wants something after the slash.
An address that only `/` has is given to `/vN` when Content-Type or Accept carry `version=N` (nova).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from apid.wsgi import faults, mediatypes
from apid.wsgi.routelist import routes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_SLASHES = re.compile("//+")


class Mount(NamedTuple):
    """Where an application hangs."""

    domain: str
    port: str
    path: str
    below_only: bool
    """`/x/+`: something must follow the slash."""


def parse_expression(text: str) -> Mount:
    """Read a key of the composite: `/p`, `domain x /p`, `domain x port 80 /p`, `port 80 /p`, `http://x:80/p`.

    Raises:
        ValueError: it is none of these.
    """
    domain = port = ""
    path = text.strip()
    if path.startswith(("http://", "https://")):
        url = urlsplit(path)
        try:
            port = str(url.port or "")
        except ValueError as exc:
            raise ValueError(f"urlmap: cannot read {text!r}: {exc}") from None
        domain, path = url.hostname or "", url.path or "/"
        if ":" in domain:
            domain = f"[{domain}]"
    else:
        words = path.split()
        while len(words) > 1 and words[0] in ("domain", "port"):
            kind, value, *words = words
            if kind == "domain":
                domain, _, given = value.lower().partition(":") if not value.startswith("[") else _bracketed(value)
                port = given or port
            else:
                port = value
        if len(words) > 1:
            raise ValueError(f"urlmap: cannot read {text!r}: want [domain NAME] [port NUMBER] /path")
        path = words[0] if words else "/"
    if not path.startswith("/"):
        raise ValueError(f"urlmap: the path of {text!r} does not start with a slash")
    if port and not port.isdigit():
        raise ValueError(f"urlmap: the port of {text!r} is not a number")
    below_only = path.endswith("/+")
    return Mount(domain, port, path.removesuffix("+").rstrip("/"), below_only)


def _bracketed(value: str) -> tuple[str, str, str]:
    host, _, port = value.partition("]")
    return host.lower() + "]", ":", port.removeprefix(":")


class URLMap:
    """A WSGI application that hands each request to the application of its mount.

    Args:
        not_found_app: for what has no mount; a JSON 404 when None.
    """

    def __init__(self, not_found_app: WSGIApplication | None = None) -> None:
        self.not_found_app = not_found_app
        self.applications: list[tuple[Mount, str, WSGIApplication]] = []
        self._hosts = False

    def __setitem__(self, expression: str, application: WSGIApplication) -> None:
        """Hang an application at a path expression.

        Raises:
            ValueError: the expression is malformed, or in use.
        """
        mount = parse_expression(expression)
        if any(known == mount for known, _, _ in self.applications):
            raise ValueError(f"urlmap: {expression!r} is given twice")
        self.applications.append((mount, mount.path + "/", application))
        self.applications.sort(key=_order)
        self._hosts = any(known.domain or known.port for known, _, _ in self.applications)

    def apid_routes(self) -> list[tuple[tuple[str, ...], str, str]]:
        """The routes of every application under its mount, for `apid --check-config`."""
        found: list[tuple[tuple[str, ...], str, str]] = []
        for mount, _, application in self.applications:
            host = f"{mount.domain}{':' + mount.port if mount.port else ''}"
            rows = routes_of(application) or [((), "/*", type(application).__name__)]
            found += [(methods, host + mount.path + path, name) for methods, path, name in rows]
        return found

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request by the application of its mount."""
        path = environ.get("PATH_INFO", "")
        if "//" in path:
            path = environ["PATH_INFO"] = _SLASHES.sub("/", path)
        host, port = _host(environ) if self._hosts else ("", "")
        for mount, slashed, application in self.applications:
            if mount.domain and mount.domain != host:
                continue
            if mount.port and mount.port != port:
                continue
            if path.startswith(slashed):
                if mount.below_only and len(path) == len(slashed):
                    continue
            elif path != mount.path or mount.below_only:
                continue
            if mount.path:
                environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + mount.path
                environ["PATH_INFO"] = path[len(mount.path) :]
                return application(environ, start_response)
            return self._negotiated(environ, application)(environ, start_response)
        if path == "*" and self.applications:  # OPTIONS * asks the server as a whole (RFC 9110, 9.3.7)
            return self.applications[-1][2](environ, start_response)
        return self._negotiated(environ, self.not_found_app or _not_found)(environ, start_response)

    def _negotiated(self, environ: WSGIEnvironment, root: WSGIApplication) -> WSGIApplication:
        """The application of the version that the media types name; the root's when they name none that is mounted."""
        version = ""
        header = environ.get("CONTENT_TYPE", "")
        if "version" in header:
            version = mediatypes.content_type(header).parameter("version")
        header = environ.get("HTTP_ACCEPT", "")
        if not version and "version" in header:
            chosen = next(iter(mediatypes.accepted(header)), None)
            version = chosen.parameter("version") if chosen else ""
        if version:
            wanted = f"/v{version}"
            for mount, _, application in self.applications:
                if mount.path == wanted and not mount.domain and not mount.port:
                    environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + wanted
                    return application
        return root


def _order(item: tuple[Mount, str, WSGIApplication]) -> tuple[Any, ...]:
    mount = item[0]
    return (not mount.domain, not mount.port, -len(mount.path), not mount.below_only, mount.path)


def _host(environ: WSGIEnvironment) -> tuple[str, str]:
    """Host and port that the request is for; an IPv6 address keeps its brackets."""
    given = environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")
    host, _, port = _bracketed(given) if given.startswith("[") else given.lower().partition(":")
    if not port:
        default = "443" if environ.get("wsgi.url_scheme") == "https" else "80"
        port = default if environ.get("HTTP_HOST") else str(environ.get("SERVER_PORT", default))
    return host, port


def _not_found(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return faults.render(faults.NotFound(), environ, start_response)


def factory(loader: Any, global_conf: Mapping[str, str], **local_conf: str) -> URLMap:
    """Make the composite for Paste Deploy; `not_found_app` may stand in the section or in [DEFAULT].

    Raises:
        ValueError: a key is malformed or given twice.
    """
    name = local_conf.pop("not_found_app", None) or global_conf.get("not_found_app")
    urlmap = URLMap(loader.get_app(name, global_conf=global_conf) if name else None)
    for expression, app_name in local_conf.items():
        urlmap[expression] = loader.get_app(app_name, global_conf=global_conf)
    return urlmap
