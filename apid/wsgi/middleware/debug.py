"""The debug filter: what comes in and goes out, into the log. Off unless told otherwise, and never a secret.

Bodies are not shown, only their length: passwords live there. Headers and query parameters whose name says that they carry a
secret are masked.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apid.wsgi import kinds
from apid.wsgi.factory import filter_factory, option

log = logging.getLogger(__name__)

_SECRET = re.compile(r"auth|token|cookie|pass|secret|key|sig|credential|session|catalog|ssl_client_cert", re.IGNORECASE)
_MASK = "***"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say."""

    enabled: bool = option(kinds.boolean, default=False, help="Whether requests and answers go to the log.")


def masked(name: str, value: object) -> str:
    """Return a value as it may be shown: in one line, or masked when its name sounds like a secret's."""
    if _SECRET.search(name):
        return _MASK
    text = str(value)
    if name == "QUERY_STRING":
        text = "&".join(_masked_parameter(part) for part in text.split("&"))
    return text if text.isprintable() else repr(text)  # a CR in a value must not begin a log line


def _masked_parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    return f"{name}{equals}{_MASK if _SECRET.search(name) else value}"


class Debug:
    """Log each request with its headers and each answer with its head and length."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        request_id = environ.get("openstack.request_id") or environ.get("apid.request_id") or "-"
        shown = {key: masked(key, value) for key, value in sorted(environ.items()) if _is_request(key, value)}
        log.info("%s request: %s", request_id, "; ".join(f"{key}={value}" for key, value in shown.items()))

        def start(status, headers, exc_info=None):  # type: ignore[no-untyped-def] # StartResponse is a protocol with an optional argument
            told = "; ".join(f"{name}: {masked(name, value)}" for name, value in headers)
            log.info("%s answer: %s; %s", request_id, status, told)
            return start_response(status, headers, exc_info)

        return _Measured(self._app(environ, start), request_id)


def _is_request(key: str, value: object) -> bool:
    return key.isupper() and isinstance(value, str)


class _Measured:
    """A body that says its length at its end."""

    def __init__(self, body: Iterable[bytes], request_id: str) -> None:
        self._body = body
        self._request_id = request_id
        self._length = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self._body:
            self._length += len(part)
            yield part

    def close(self) -> None:
        """PEP 3333: the server calls it, whatever happened."""
        close: Any = getattr(self._body, "close", None)
        if close:
            close()
        log.info("%s body: %d bytes", self._request_id, self._length)


def _make(app: WSGIApplication, options: Options) -> WSGIApplication:
    return Debug(app) if options.enabled else app


factory = filter_factory("debug", Options, _make)
