"""The opentelemetry filter: a span a request, with children (spans.py). Needs the extra `apid[otel]`.

Nothing of OpenTelemetry is imported unless the filter stands in the ini. Where spans are sent to, and which of them, is said by
OpenTelemetry's own environment variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, ...).
"""

from __future__ import annotations

import dataclasses
from wsgiref.types import WSGIApplication

from apid.wsgi import kinds
from apid.wsgi.factory import filter_factory, option
from apid.wsgi.middleware.extras import needed


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the ini section may say."""

    service_name: str = option(kinds.word, default="apid", help="service.name of the resource.")
    exporter: str = option(
        kinds.choice("otlp", "console", "none"),
        default="otlp",
        help="otlp: over HTTP; console: to standard output; none: the application sets a tracer provider up itself.",
    )


def _make(app: WSGIApplication, options: Options) -> WSGIApplication:
    needed("opentelemetry.trace", "opentelemetry", "otel")
    if options.exporter != "none":
        needed("opentelemetry.sdk.trace", "opentelemetry", "otel")
    if options.exporter == "otlp":
        needed("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry", "otel")
    from apid.wsgi.middleware.spans import Spans

    return Spans(app, options.exporter, options.service_name)


factory = filter_factory("opentelemetry", Options, _make)
