"""Spans for the opentelemetry filter: one a request, and a child for each filter and application behind it.

Filters behind it are found once, while the pipeline is loaded: each filter of the toolkit and most others keep the application
that they wrap in an attribute, whose value is replaced by one that makes a span around the call. What hides its application is
one span with it. Attributes follow OpenTelemetry's semantic conventions for HTTP servers.

Imports OpenTelemetry; only the filter's factory (opentelemetry.py) imports this module, and only when the ini names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from opentelemetry import context, propagate, trace
from opentelemetry.trace import SpanKind, StatusCode

from apid.wsgi.middleware.traceparent import BEGUN

_WRAPPED = ("_app", "app", "application", "_application", "wrapped_app")
"""Names under which filters keep what is behind them."""

FLUSH = 500
"""Milliseconds that spans are collected before they are sent; few, because a worker may end at any time."""

FLUSH_PATIENCE = 2000
"""Milliseconds that the last requests of a worker give to sending."""


class Spans:
    """Make a span of each request."""

    def __init__(self, app: WSGIApplication, exporter: str, service_name: str) -> None:
        if exporter != "none":
            _set_up(exporter, service_name)
        self._tracer = trace.get_tracer("apid")
        self._app = _spanned(app, self._tracer)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        begun = BEGUN in environ
        carrier = {} if begun else {name: environ[key] for name, key in _CARRIED if key in environ}
        span = self._tracer.start_span(
            environ["REQUEST_METHOD"],
            context=propagate.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=_attributes(environ),
        )
        if begun:
            _rename(environ, span.get_span_context())

        def start(status, headers, exc_info=None):  # type: ignore[no-untyped-def] # StartResponse is a protocol with an optional argument
            code = int(status[:3])
            span.set_attribute("http.response.status_code", code)
            if code >= 500:
                span.set_status(StatusCode.ERROR)
            return start_response(status, headers, exc_info)

        token = context.attach(trace.set_span_in_context(span))
        try:
            body = self._app(environ, start)
        except BaseException as error:
            _failed(span, error)
            span.end()
            raise
        finally:
            context.detach(token)
        return _Body(body, span, environ.get("apid.worker_draining"))


_CARRIED = (("traceparent", "HTTP_TRACEPARENT"), ("tracestate", "HTTP_TRACESTATE"), ("baggage", "HTTP_BAGGAGE"))


class _Body:
    """The answer's body; the span ends with it."""

    def __init__(self, body: Iterable[bytes], span: trace.Span, draining: Callable[[], bool] | None) -> None:
        self._body = body
        self._span = span
        self._draining = draining

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except BaseException as error:
            _failed(self._span, error)
            raise

    def close(self) -> None:
        """The answer is over."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._span.end()
            if self._draining is not None and self._draining():
                _flush()


class _Part:
    """One filter or application behind the filter, with a span around its call."""

    def __init__(self, app: WSGIApplication, tracer: trace.Tracer) -> None:
        self._app = app
        self._tracer = tracer
        self._name = type(app).__name__ if not hasattr(app, "__name__") else app.__name__

    def __getattr__(self, name: str) -> Any:
        """What others ask of the application, such as its routes."""
        return getattr(self._app, name)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self._tracer.start_as_current_span(self._name):
            return self._app(environ, start_response)


def _spanned(app: WSGIApplication, tracer: trace.Tracer) -> WSGIApplication:
    """Wrap an application, and what it wraps in turn, to the end."""
    for name in _WRAPPED:
        behind = vars(app).get(name) if hasattr(app, "__dict__") else None
        if callable(behind):
            setattr(app, name, _spanned(behind, tracer))
            break
    return _Part(app, tracer)


def _rename(environ: WSGIEnvironment, span: trace.SpanContext) -> None:
    """Let what stands behind see the trace that is recorded, not the one that the traceparent filter began before."""
    trace_id, span_id = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    environ["apid.trace_id"], environ["apid.parent_id"] = trace_id, span_id
    environ["HTTP_TRACEPARENT"] = f"00-{trace_id}-{span_id}-{span.trace_flags:02x}"


def _attributes(environ: WSGIEnvironment) -> dict[str, Any]:
    found: dict[str, Any] = {
        "http.request.method": environ["REQUEST_METHOD"],
        "url.scheme": environ.get("wsgi.url_scheme", "http"),
        "url.path": environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""),
        "server.address": environ.get("SERVER_NAME", ""),
        "network.protocol.version": environ.get("SERVER_PROTOCOL", "").removeprefix("HTTP/"),
    }
    for name, key in (
        ("client.address", "REMOTE_ADDR"),
        ("user_agent.original", "HTTP_USER_AGENT"),
        ("apid.request_id", "apid.request_id"),
    ):
        if environ.get(key):
            found[name] = environ[key]
    worker = environ.get("apid.worker")
    if worker:
        found |= {f"apid.worker.{key}": value for key, value in worker.items()}
    return found


def _flush() -> None:
    """Send what was collected: this worker ends when its requests do, and nobody would send it then."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush(FLUSH_PATIENCE)


def _failed(span: trace.Span, error: BaseException) -> None:
    span.record_exception(error)
    span.set_status(StatusCode.ERROR)


def _set_up(to: str, service_name: str) -> None:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return  # another pipeline of this worker has the filter too; there can be one provider
    exporter: SpanExporter
    if to == "console":
        exporter = ConsoleSpanExporter()
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=FLUSH))
    trace.set_tracer_provider(provider)
