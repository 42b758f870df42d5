"""Answers what it was asked, as JSON: method, content as latin-1, the strings of the environ."""

from __future__ import annotations

import json


def factory(global_conf, **local_conf):
    def app(environ, start_response):
        content = environ["wsgi.input"].read()
        shown = {key: value for key, value in environ.items() if isinstance(value, str)}
        body = json.dumps(
            {"method": environ["REQUEST_METHOD"], "content": content.decode("latin-1"), "environ": shown}
        ).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return app
