"""Answers the environ itself, as JSON: the strings as they are, of everything else its repr."""

from __future__ import annotations

import json


def factory(global_conf, **local_conf):
    def app(environ, start_response):
        shown = {key: value if isinstance(value, str) else repr(value) for key, value in environ.items()}
        body = json.dumps(shown, indent=1, sort_keys=True).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return app
