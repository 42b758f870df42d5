"""Answers with what `environ["apid.status"]` gives, as JSON; the query's `flights` is passed on."""

from __future__ import annotations

import json
from urllib.parse import parse_qs


def factory(global_conf, **local_conf):
    def app(environ, start_response):
        query = parse_qs(environ.get("QUERY_STRING", ""))
        document = environ["apid.status"](flights=int(query.get("flights", ["0"])[0]))
        body = json.dumps(document).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return app
