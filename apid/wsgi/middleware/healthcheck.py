"""The healthcheck, as an app and as a filter: is this process fit to get requests?

The answers have oslo.middleware's shapes. It says 503 from the moment the daemon leaves (`environ["apid.draining"]()`, which the
daemon gives), so that a load balancer goes elsewhere before the listener closes. A worker that leaves at a reload says 200:
another one takes its place. Whether the service behind works is looked at only by backends that are asked for by name: a health
check that depends on a database takes every API down with it. Others bring backends as entry points of the group
`apid.healthcheck.backends`: a callable (environ) that returns the reason, or "".
"""

from __future__ import annotations

import dataclasses
import html
import importlib.metadata
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apid.forwarded import PROXIED
from apid.hosts import address_of
from apid.wsgi import answer, faults, kinds
from apid.wsgi.factory import app_factory, filter_factory, option

_FORWARDED = (
    "HTTP_FORWARDED",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_PREFIX",
)
_TYPES = ("text/plain", "text/html", "application/json")
Backend = Callable[["AppOptions", WSGIEnvironment], str]


def _port_and_path(value: str) -> tuple[str, str]:
    port, colon, path = value.partition(":")
    if not (colon and port.isdigit() and path):
        raise ValueError(f"{value} is not")
    return port, path


def _never(value: str) -> bool:
    if kinds.boolean.convert(value):
        raise ValueError("stacks and paths are not for clients")
    return False


def _disable_by_file(options: AppOptions, _: WSGIEnvironment) -> str:
    path = options.disable_by_file_path
    return "DISABLED BY FILE" if path and Path(path).exists() else ""


def _disable_by_files_ports(options: AppOptions, environ: WSGIEnvironment) -> str:
    path = dict(options.disable_by_file_paths).get(environ.get("SERVER_PORT", ""))
    return "DISABLED BY FILE" if path and Path(path).exists() else ""


def _enable_by_files(options: AppOptions, _: WSGIEnvironment) -> str:
    missing = any(not Path(path).exists() for path in options.enable_by_file_paths)
    return "FILE PATH MISSING" if missing else ""


_BACKENDS: dict[str, Backend] = {
    "disable_by_file": _disable_by_file,
    "disable_by_files_ports": _disable_by_files_ports,
    "enable_by_files": _enable_by_files,
}


GROUP = "apid.healthcheck.backends"


def _known(value: str) -> str:
    if value not in _BACKENDS and value not in importlib.metadata.entry_points(group=GROUP).names:
        others = sorted(importlib.metadata.entry_points(group=GROUP).names)
        raise ValueError(f"{value} is not; there are {', '.join([*_BACKENDS, *others])}")
    return value


def _backend(name: str) -> Backend:
    if name in _BACKENDS:
        return _BACKENDS[name]
    (entry,) = importlib.metadata.entry_points(group=GROUP, name=name)
    others: Callable[[WSGIEnvironment], str] = entry.load()
    return lambda _, environ: others(environ)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AppOptions:
    """What the app's ini section may say; oslo.middleware's names."""

    backends: tuple[str, ...] = option(
        kinds.listed(kinds.Kind("the name of a backend", _known)),
        default=(),
        help="What is looked at besides a drain.",
    )
    disable_by_file_path: str = option(kinds.text, default="", help="While this file exists the answer is 503.")
    disable_by_file_paths: tuple[tuple[str, str], ...] = option(
        kinds.listed(kinds.Kind("<port>:<path>", _port_and_path)), default=(), help="The same by port of the server."
    )
    enable_by_file_paths: tuple[str, ...] = option(
        kinds.listed(kinds.word), default=(), help="While one of these files is missing the answer is 503."
    )
    allowed_source_ranges: tuple[kinds.Network, ...] = option(
        kinds.networks, default=(), help="Networks that get an answer from here; without any, all."
    )
    ignore_proxied_requests: bool = option(
        kinds.boolean, default=False, help="Whether requests that came through a proxy get no answer from here."
    )
    detailed: bool = option(
        kinds.Kind("false", _never), default=False, help="Only false: oslo.middleware's details show stacks."
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions(AppOptions):
    """What the filter's ini section may say."""

    path: str = option(kinds.word, default="/healthcheck", help="The path that is answered here.")


class Healthcheck:
    """The app."""

    def __init__(self, options: AppOptions) -> None:
        self._options = options
        self._backends = [_backend(name) for name in options.backends]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        if not self.is_for_us(environ):
            return faults.render(faults.NotFound(), environ, start_response)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return faults.render(faults.MethodNotAllowed(headers={"Allow": "GET, HEAD"}), environ, start_response)
        reasons = self._reasons(environ)
        headers = [("Cache-Control", "no-store")]
        if environ["REQUEST_METHOD"] == "HEAD":
            return answer.send(start_response, 503 if reasons else 204, headers)
        kind, body = _document(reasons or ["OK"], environ.get("HTTP_ACCEPT", ""))
        return answer.send(start_response, 503 if reasons else 200, [("Content-Type", kind), *headers], body)

    def is_for_us(self, environ: WSGIEnvironment) -> bool:
        """Tell whether who asks gets an answer from here."""
        ranges = self._options.allowed_source_ranges
        if ranges:
            address = address_of(environ.get("REMOTE_ADDR", ""))
            if address is None or not any(address in network for network in ranges):
                return False
        if not self._options.ignore_proxied_requests:
            return True
        return PROXIED not in environ and not any(name in environ for name in _FORWARDED)

    def _reasons(self, environ: WSGIEnvironment) -> list[str]:
        draining = environ.get("apid.draining")
        found = ["DRAINING"] if draining is not None and draining() else []
        return found + [reason for backend in self._backends if (reason := backend(self._options, environ))]


class HealthcheckFilter:
    """The app at one path; everything else goes on."""

    def __init__(self, app: WSGIApplication, options: FilterOptions) -> None:
        self._app = app
        self._path = options.path
        self._healthcheck = Healthcheck(options)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        if environ.get("PATH_INFO") == self._path and self._healthcheck.is_for_us(environ):
            return self._healthcheck(environ, start_response)
        return self._app(environ, start_response)


def _document(reasons: list[str], accept: str) -> tuple[str, bytes]:
    """Return (content type, body); text where no kind is accepted, as an error would help nobody here."""
    kind = "text/plain"
    if accept and accept != "*/*":
        from webob.acceptparse import create_accept_header

        offers = create_accept_header(accept).acceptable_offers(list(_TYPES))
        kind = offers[0][0] if offers else kind
    if kind == "application/json":
        return kind, json.dumps({"detailed": False, "reasons": reasons}, indent=4, sort_keys=True).encode()
    if kind == "text/html":
        rows = "".join(f"<TR><TD>{html.escape(reason)}</TD></TR>" for reason in reasons)
        page = f"<HTML><HEAD><TITLE>Healthcheck Status</TITLE></HEAD><BODY><TABLE>{rows}</TABLE></BODY></HTML>\n"
        return f"{kind}; charset=UTF-8", page.encode()
    return f"{kind}; charset=UTF-8", "\n".join(reasons).encode()


app = app_factory("healthcheck", AppOptions, Healthcheck)
factory = filter_factory("healthcheck", FilterOptions, HealthcheckFilter)
