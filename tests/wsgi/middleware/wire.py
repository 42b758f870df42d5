"""A request through a filter and an application, with wsgiref.validate and paste.lint on both sides of the filter."""

from __future__ import annotations

import dataclasses
import io
import json
import wsgiref.validate
from wsgiref.util import setup_testing_defaults

import paste.lint


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    environ: dict

    @property
    def json(self):
        return json.loads(self.body)


class Seen:
    """An application that keeps the environ it got and answers 200."""

    def __init__(self, headers=(), read=None):
        self.environ = None
        self.headers = [("Content-Type", "text/plain"), ("Content-Length", "2"), *headers]
        self.read = read
        self.body = None

    def __call__(self, environ, start_response):
        self.environ = dict(environ)
        if self.read:
            self.body = self.read(environ["wsgi.input"])
        start_response("200 OK", self.headers)
        return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [b"ok"]


def ask(wrap, app, path="/", method="GET", body=None, length=True, **extra):
    """Send one request; keys of `extra` that are not in the environ's form are headers (`x_auth_token`)."""
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "REMOTE_ADDR": "192.0.2.1",
    }
    setup_testing_defaults(environ)
    if body is not None:
        environ["wsgi.input"] = io.BytesIO(body)
        if length:
            environ["CONTENT_LENGTH"] = str(len(body))
        else:
            environ["HTTP_TRANSFER_ENCODING"] = "chunked"
            environ["wsgi.input_terminated"] = True
    for key, value in extra.items():
        environ[key if key.isupper() or "." in key else "HTTP_" + key.upper()] = value
    started = []

    def start_response(status, headers, exc_info=None):
        assert exc_info or not started
        started[:] = [status, headers]
        return lambda data: None

    checked = both(wrap(both(app)))
    result = checked(environ, start_response)
    try:
        data = b"".join(result)
    finally:
        result.close()
    status, headers = started
    assert len({name.lower() for name, _ in headers}) == len(headers), f"a header twice: {headers}"
    return Answer(int(status[:3]), dict(headers), data, environ)


def both(app):
    return wsgiref.validate.validator(paste.lint.middleware(app))
