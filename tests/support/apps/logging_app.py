"""Logs a line before and after a green sleep, and another one in a green thread of its own: whose id stands in each of them?"""

from __future__ import annotations

import logging
import time

LOG = logging.getLogger("app")


def factory(global_conf, **local_conf):
    def app(environ, start_response):
        word = environ["PATH_INFO"].strip("/")
        LOG.info("before %s", word)
        time.sleep(0.05)
        LOG.info("after %s", word)
        body = environ["apid.request_id"].encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app
