"""Addresses of this API for the client: the base of all links, and the links between pages."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment


def application_url(environ: WSGIEnvironment, public_endpoint: str = "") -> str:
    """Scheme, host and SCRIPT_NAME of this application, without a slash at the end (PEP 3333, URL Reconstruction).

    Args:
        environ: of the request.
        public_endpoint: what clients see instead of scheme and host, such as `https://api.example.org/animals`.
    """
    script = quoted(environ.get("SCRIPT_NAME", "")).rstrip("/")
    return host_url(environ, public_endpoint) + script


def host_url(environ: WSGIEnvironment, public_endpoint: str = "") -> str:
    """Scheme and host, or what stands for them."""
    if public_endpoint:
        return public_endpoint.rstrip("/")
    scheme = environ["wsgi.url_scheme"]
    host = environ.get("HTTP_HOST")
    if not host:
        host, port = environ["SERVER_NAME"], environ["SERVER_PORT"]
        if str(port) != {"http": "80", "https": "443"}.get(scheme):
            host = f"{host}:{port}"
    return f"{scheme}://{host}"


def quoted(path: str) -> str:
    """A path of the environ (bytes as latin-1, PEP 3333) as it stands in an address."""
    return quote(path, safe="/;,=:@!$&'()*+~", encoding="latin-1")
