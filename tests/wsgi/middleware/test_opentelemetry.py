"""The opentelemetry filter with the real SDK and spans kept in memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from apid.wsgi.middleware import traceparent
from apid.wsgi.middleware.opentelemetry import factory
from tests.wsgi.middleware.wire import Seen, ask

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="session")
def exporter():
    """There is one tracer provider a process."""
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    return memory


@pytest.fixture
def spans(exporter):
    exporter.clear()
    return exporter.get_finished_spans


class Inner:
    def __init__(self, app):
        self._app = app

    def __call__(self, environ, start_response):
        return self._app(environ, start_response)


class Outer(Inner):
    pass


def wrap(app):
    return factory({}, exporter="none")(app)


def test_a_span_a_request_and_a_child_a_filter(spans):
    # `ask` puts a checker between; what it hides is the last span
    answer = ask(lambda app: wrap(Outer(Inner(app))), Seen(), "/things", traceparent=PARENT, user_agent="me")
    assert answer.status == 200
    app, inner, outer, request = spans()
    assert [span.name for span in (inner, outer, request)] == ["Inner", "Outer", "GET"]
    assert request.kind is SpanKind.SERVER
    assert f"{request.context.trace_id:032x}" == PARENT[3:35]
    assert f"{request.parent.span_id:016x}" == PARENT[36:52]
    assert app.parent.span_id == inner.context.span_id
    assert inner.parent.span_id == outer.context.span_id
    assert outer.parent.span_id == request.context.span_id
    found = request.attributes
    assert found["http.request.method"] == "GET"
    assert found["url.path"] == "/things"
    assert found["http.response.status_code"] == 200
    assert found["user_agent.original"] == "me"
    assert request.status.status_code is StatusCode.UNSET


def test_without_a_parent_a_trace_begins(spans):
    ask(wrap, Seen())
    assert spans()[-1].parent is None


def test_an_exception_goes_on_and_is_recorded(spans):
    def broken(environ, start_response):
        raise LookupError("for a test")

    with pytest.raises(LookupError):
        ask(wrap, broken)
    request = spans()[-1]
    assert request.status.status_code is StatusCode.ERROR
    assert request.events[0].attributes["exception.type"] == "LookupError"


def test_a_server_error_is_an_error_and_a_clients_is_none(spans):
    def answering(status):
        def app(environ, start_response):
            start_response(status, [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return [b""]

        return app

    for status, code in (("503 Away", StatusCode.ERROR), ("404 Not Found", StatusCode.UNSET)):
        ask(wrap, answering(status))
        assert spans()[-1].status.status_code is code


def test_what_an_application_is_asked_is_answered_by_it():
    class Api(Seen):
        def apid_routes(self):
            return [("GET", "/", "home")]

    wrapped = wrap(Api())
    assert wrapped._app.apid_routes() == [("GET", "/", "home")]


def test_a_body_that_fails_ends_its_span_once(spans, caplog):
    def broken(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun"
        raise LookupError("for a test")

    with pytest.raises(LookupError):
        ask(wrap, broken)
    assert spans()[-1].status.status_code is StatusCode.ERROR
    assert "ended span" not in caplog.text


def test_a_worker_that_drains_sends_what_it_has(spans, monkeypatch):
    flushed = []
    monkeypatch.setattr(trace.get_tracer_provider(), "force_flush", flushed.append)
    ask(wrap, Seen(), **{"apid.worker_draining": lambda: False})
    assert not flushed
    ask(wrap, Seen(), **{"apid.worker_draining": lambda: True})
    assert flushed == [2000]


def test_nothing_of_it_is_imported_without_the_filter():
    code = "import sys, apid.api.app, apid.wsgi.middleware.requestid; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


def test_a_trace_that_the_traceparent_filter_begins_is_recorded_under_one_id(spans):
    behind = Seen()
    answer = ask(lambda app: traceparent.factory({})(wrap(app)), behind, "/things")
    assert answer.status == 200
    request = spans()[-1]
    assert request.parent is None
    trace_id, span_id = f"{request.context.trace_id:032x}", f"{request.context.span_id:016x}"
    assert behind.environ["HTTP_TRACEPARENT"] == f"00-{trace_id}-{span_id}-{request.context.trace_flags:02x}"
    assert request.context.trace_flags & 1  # sampled: nobody has said otherwise
    assert (behind.environ["apid.trace_id"], behind.environ["apid.parent_id"]) == (trace_id, span_id)
