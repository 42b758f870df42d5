"""The traceparent filter: W3C Trace Context (Recommendation, 2021) accepted, or begun here; passed on in the environ, and logged.

It makes no spans: it is for who wants to find a request of a trace in the log, at the cost of one regular expression. Spans are
made by the opentelemetry filter, which does not need this one.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apid.wsgi import kinds
from apid.wsgi.factory import filter_factory, option

LOG = logging.getLogger(__name__)

BEGUN = "apid.trace_begun"
"""In the environ of a request whose trace begins here: there is no caller whose word on sampling counts."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO}

# 3.2.2 of the Recommendation: lower case only; version ff is invalid, and so are ids of zeros. A later version may append
# fields after a dash, version 00 may not.
_match = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
).fullmatch


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say."""

    log_level: str = option(
        kinds.choice("debug", "info"), default="debug", help="At which level each request's trace is logged."
    )


class Traceparent:
    """Give each request the ids of its trace: `apid.trace_id`, `apid.parent_id`, and a HTTP_TRACEPARENT that is valid."""

    def __init__(self, app: WSGIApplication, options: Options) -> None:
        self._app = app
        self._level = _LEVELS[options.log_level]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        found = _match(environ.get("HTTP_TRACEPARENT", ""))
        if found is None or (found[1] == "00" and found[5]):
            # 4.3: a header that cannot be read counts as none; without it tracestate means nothing
            trace, parent = os.urandom(16).hex(), os.urandom(8).hex()
            environ["HTTP_TRACEPARENT"] = f"00-{trace}-{parent}-00"
            environ.pop("HTTP_TRACESTATE", None)
            environ[BEGUN] = True
            text = "trace %s begins here, span %s"
        else:
            trace, parent, text = found[2], found[3], "trace %s, called by span %s"
        environ["apid.trace_id"], environ["apid.parent_id"] = trace, parent
        LOG.log(self._level, text, trace, parent)
        return self._app(environ, start_response)


factory = filter_factory("traceparent", Options, Traceparent)
