"""egg:apid#dashboard as an application: its parts, its policy, its stream of events."""

from __future__ import annotations

import json
import re
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from apid.wsgi.monitoring.dashboard import app as factory
from tests.support.browser import Browser, have_chromium
from tests.support.processes import wait_until
from tests.support.status_document import document, threads, worker


class Ask:
    """One request to an app."""

    def __init__(self, app, path, method="GET", **environ):
        def start_response(line, headers, exc_info=None):
            self.code, self.headers = int(line[:3]), dict(headers)

        request = {"REQUEST_METHOD": method, "SCRIPT_NAME": "/x/dashboard", "PATH_INFO": path, **environ}
        self.answer = app(request, start_response)

    @property
    def body(self):
        return b"".join(self.answer).decode()


def status(**options):
    return {"apid.status": lambda **_: document(), **options}


@pytest.fixture
def dashboard():
    return factory({}, streams="2")


def test_the_page_and_all_its_parts_come_from_here(dashboard):
    page = Ask(dashboard, "/")
    parts = re.findall(r'(?:href|src)="([^"]+)"', page.body)
    script = Ask(dashboard, "/dashboard.js").body
    parts += re.findall(r'from "\./([^"]+)"', script)
    assert set(parts) == {"icon.svg", "style.css", "dashboard.js", "chart.js"}
    for part in parts:
        found = Ask(dashboard, f"/{part}")
        assert found.code == 200
        addresses = re.findall(r"https?://[^\"' ]+", found.body)
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}


def test_nothing_inline_and_nothing_from_elsewhere_is_allowed(dashboard):
    page = Ask(dashboard, "/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<style|<script>| style=| on\w+=", page.body)


def test_the_address_without_a_slash_leads_to_the_page(dashboard):
    found = Ask(dashboard, "")
    assert (found.code, found.headers["Location"]) == (308, "./dashboard/")


def test_a_page_that_is_known_is_not_sent_again(dashboard):
    tag = Ask(dashboard, "/style.css").headers["ETag"]
    assert Ask(dashboard, "/style.css", HTTP_IF_NONE_MATCH=tag).code == 304


def test_other_paths_and_methods(dashboard):
    assert Ask(dashboard, "/../families.py").code == 404
    assert Ask(dashboard, "/", method="POST").code == 405
    assert Ask(dashboard, "/events").code == 404  # a server that tells nothing


def test_events_are_documents_one_a_second_until_the_worker_drains(dashboard, monkeypatch):
    slept, drains = [], []
    monkeypatch.setattr("time.sleep", slept.append)
    clock = iter(range(1000))
    monkeypatch.setattr("time.monotonic", lambda: next(clock) / 10)
    found = Ask(dashboard, "/events", **status(**{"apid.worker_draining": lambda: bool(drains)}))
    assert found.headers["Content-Type"] == "text/event-stream"
    stream = iter(found.answer)
    first, second = next(stream).decode(), next(stream).decode()
    assert first.startswith("retry: 1000\ndata: {")
    told = json.loads(second.removeprefix("data: ").strip())
    assert told["generation"] == 7
    assert "latency" not in told["workers"][0]
    assert told["workers"][0]["flights"]
    assert slept
    assert max(slept) <= 0.2
    drains.append(True)
    assert list(stream) == []


def test_only_so_many_streams_and_one_that_ends_makes_room(dashboard):
    one, two = (Ask(dashboard, "/events", **status()) for _ in range(2))
    refused = Ask(dashboard, "/events", **status())
    assert refused.code == 503
    assert refused.headers["Retry-After"] == "5"
    one.answer.close()  # never iterated: the client left before the first event
    one.answer.close()
    assert Ask(dashboard, "/events", **status()).code == 200
    assert Ask(dashboard, "/events", **status()).code == 503
    two.answer.close()


class Threaded(ThreadingMixIn, WSGIServer):
    """A server that a stream does not hold up; its end waits for its threads."""


class Silent(WSGIRequestHandler):
    """One that logs nothing."""

    def log_message(self, *_):
        """Nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1280, 1000), (390, 844)], ids=["desk", "phone"])
def test_the_page_shows_the_engine_and_slots_that_are_stuck(dashboard, tmp_path, size):
    have_chromium()
    over = threading.Event()
    told = document([threads(0), threads(1, stuck=1), worker(0, generation=6, stage="draining")])

    def app(environ, start_response):
        extras = {"apid.status": lambda **_: told, "apid.worker_draining": over.is_set}
        return dashboard({**environ, **extras}, start_response)

    with make_server("127.0.0.1", 0, app, Threaded, Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with Browser(tmp_path / "browser", size) as page:
                page.open(f"http://127.0.0.1:{server.server_port}/")
                wait_until(lambda: page.text("#state") == "1 slot stuck", "the first event", 20)
                cards = page.run("return [...document.querySelectorAll('[data-pid]')].map(e => e.innerText)")
                assert ["slot stuck" in card for card in cards] == [False, True, False]
                assert ["GIL wait" in card and "120 µs" in card for card in cards] == [True, True, False]
                assert [re.search(r"^(\w+) · pid", card, re.MULTILINE).group(1) for card in cards] == [
                    "threads",
                    "threads",
                    "eventlet",
                ]
                assert page.text("#flights tbody").count("stuck: GET /v1/items") == 1
                width = page.run("return [document.documentElement.scrollWidth, window.innerWidth]")
                assert width[0] <= width[1], "the page is wider than the window"
        finally:
            over.set()
            server.shutdown()
