"""Does to logging, while it loads, what applications do: closes, disables, replaces. `/raise` raises, `/wait` waits for long."""

from __future__ import annotations

import logging
import logging.config
import sys
import time


def factory(global_conf, **local_conf):
    null = {"null": {"class": "logging.NullHandler"}}
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True, "handlers": null})
    logging.disable(logging.CRITICAL)
    logging.setLogRecordFactory(lambda *args, **kwargs: 1 / 0)
    logging.shutdown()
    sys.stderr.close()
    sys.stdout.close()
    sys.stderr = sys.stdout = sys.__stderr__ = sys.__stdout__ = None

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/raise":
            raise ValueError("this request failed")
        if environ["PATH_INFO"] == "/wait":
            time.sleep(60)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    return app
