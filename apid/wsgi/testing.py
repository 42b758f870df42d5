"""An in-process client for tests of an API: no server, no socket, and PEP 3333 held against the application at every call.

client = Client(loadapp("config:/etc/zoo/api-paste.ini"))
assert client.get("/v1/animals").json == {"animals": []}
"""

from __future__ import annotations

import io
import json as jsonlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from wsgiref.types import WSGIApplication

_NOTHING: Any = object()


class _Headers(dict[str, str]):
    """The headers of an answer; names in any case. Of repeated ones the values stand with commas between."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__()
        for name, value in pairs:
            key = name.lower()
            self[key] = f"{self[key]}, {value}" if key in self else value

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header, or the default."""
        return super().get(name.lower(), default)


@dataclass(frozen=True)
class Answer:
    """What the application answered.

    Attributes:
        code: the status code.
        headers: the headers; names in any case.
        body: all of the body.
    """

    code: int
    headers: _Headers
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return jsonlib.loads(self.body)

    @property
    def fault(self) -> dict[str, Any]:
        """The inner document of a fault, in either form."""
        document = self.json
        found: dict[str, Any] = document["errors"][0] if "errors" in document else next(iter(document.values()))
        return found


class Client:
    """Calls an application as a server would.

    Args:
        application: what to call.
        headers: sent with every request.
        environ: further keys of every environ, such as `apid.draining`.
        validate: hold every call against PEP 3333 (wsgiref.validate).
    """

    def __init__(
        self,
        application: WSGIApplication,
        *,
        headers: Mapping[str, str] | None = None,
        environ: Mapping[str, Any] | None = None,
        validate: bool = True,
    ) -> None:
        self._application: Any = validator(application) if validate else application
        self._headers = dict(headers or {})
        self._environ = dict(environ or {})

    def environ(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> dict[str, Any]:
        """The environ of a request, as PEP 3333 wants it."""
        path, _, query = target.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body or b""),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        if body is not None:
            environ["CONTENT_LENGTH"] = str(len(body))
        for name, value in {**self._headers, **headers}.items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        return {**environ, **self._environ}

    def request(
        self,
        method: str,
        target: str,
        *,
        json: Any = _NOTHING,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request.

        Args:
            method: the method.
            target: path and query string; the path percent-encoded, or not.
            json: a document for the body.
            body: a body as it is; not together with `json`.
            headers: of this request.
        """
        sent = dict(headers or {})
        if json is not _NOTHING:
            body = jsonlib.dumps(json).encode()
            sent.setdefault("Content-Type", "application/json")
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(
            status: str,
            headers: list[tuple[str, str]],
            exc_info: tuple[type[BaseException], BaseException, TracebackType] | None = None,
        ) -> Callable[[bytes], object]:
            if started and exc_info is None:
                raise AssertionError("start_response was called twice without exc_info (PEP 3333)")
            started.append((status, headers))
            return lambda data: data

        chunks = self._application(self.environ(method, target, sent, body), start_response)
        try:
            data = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        status, pairs = started[-1]
        return Answer(int(status[:3]), _Headers(pairs), data)

    def get(self, target: str, **options: Any) -> Answer:
        """Send a GET."""
        return self.request("GET", target, **options)

    def head(self, target: str, **options: Any) -> Answer:
        """Send a HEAD."""
        return self.request("HEAD", target, **options)

    def options(self, target: str, **options: Any) -> Answer:
        """Send an OPTIONS."""
        return self.request("OPTIONS", target, **options)

    def post(self, target: str, **options: Any) -> Answer:
        """Send a POST."""
        return self.request("POST", target, **options)

    def put(self, target: str, **options: Any) -> Answer:
        """Send a PUT."""
        return self.request("PUT", target, **options)

    def patch(self, target: str, **options: Any) -> Answer:
        """Send a PATCH."""
        return self.request("PATCH", target, **options)

    def delete(self, target: str, **options: Any) -> Answer:
        """Send a DELETE."""
        return self.request("DELETE", target, **options)
