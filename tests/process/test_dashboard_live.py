"""The dashboard in a real daemon, and (slow) in a real browser during a reload."""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading

import pytest

from tests.support.browser import Browser, have_chromium
from tests.support.client import Connection, get
from tests.support.processes import wait_until

TOP = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = TOP / "etc" / "apid" / "api-paste.ini"


@pytest.fixture
def shipped(daemon):
    """A daemon with the shipped pipeline and the admin listener that the shipped apid.conf proposes; and that address."""

    def start(**options):
        one = daemon(
            listeners="admin",
            sections={
                "paste_deploy": {"config_file": SHIPPED},
                "listener:admin": {"bind": "127.0.0.1:0", "app_name": "admin"},
            },
            **options,
        ).start()
        host, _, port = one.addresses("admin")[0].rpartition(":")
        return one, (host, int(port))

    return start


def events(connection: Connection, count: int) -> list[bytes]:
    """Read whole events off a stream."""
    data = b""
    while data.count(b"\n\n") < count:
        data += connection.sock.recv(65536)
    return data.split(b"\n\n")[:count]


@contextlib.contextmanager
def visitors(address):
    """A little traffic for the charts."""
    over = threading.Event()

    def visit():
        while not over.wait(0.02):
            get(address, "/v1/")

    threads = [threading.Thread(target=visit) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_the_lines_that_the_shipped_configuration_proposes_are_right(daemon):
    lines = (TOP / "etc" / "apid" / "apid.conf").read_text(encoding="utf-8").partition("listeners = admin")[2]
    section = [line.removeprefix("# ") for line in lines.splitlines() if line.startswith("# ")]
    assert section == ["[listener:admin]", "bind = 127.0.0.1:8081", "app_name = admin"]


def test_the_admin_listener_shows_and_changes_nothing(shipped):
    one, admin = shipped(workers=1)
    assert get(admin, "/metrics").status == 200
    assert get(admin, "/dashboard/").status == 200
    assert get(admin, "/healthcheck").status == 200
    assert get(one.address, "/dashboard/").status == 404
    for path in ("/metrics", "/dashboard/", "/dashboard/events", "/healthcheck"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            with Connection(admin) as connection:
                assert connection.request(method, path).status == 405


@pytest.mark.slow
def test_a_stream_does_not_block_its_worker_and_ends_with_its_drain(shipped):
    one, admin = shipped(workers=1)
    with Connection(admin) as stream:
        stream.send(b"GET /dashboard/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"data: " in events(stream, 1)[0]
        assert get(one.address).status == 300
        one.apidctl("reload")
        one.wait_for_log("worker ended: reload", deadline=30)  # less than graceful_shutdown_timeout
        assert stream.rest().endswith(b"0\r\n\r\n")
        assert stream.ended()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "dark"), [((1280, 1000), True), ((390, 844), False)], ids=["desk-dark", "phone-light"]
)
def test_the_page_in_chromium_during_a_reload(shipped, tmp_path, size, dark):
    have_chromium()
    one, (host, port) = shipped(workers=2)
    shots = pathlib.Path(os.environ.get("APID_SCREENSHOTS", tmp_path))
    name = "dashboard" if dark else "dashboard-phone"
    with (
        Browser(tmp_path / "browser", size, dark=dark) as page,
        visitors(one.address),
    ):
        page.open(f"http://{host}:{port}/dashboard/")
        wait_until(lambda: "running" in page.text("#state"), "the first event", 20)
        wait_until(
            lambda: page.run("return document.querySelectorAll('#chart-rate polyline').length") == 1, "a chart", 20
        )
        assert page.run(
            "return [...document.querySelectorAll('[data-generation]')].map(e => e.dataset.generation)"
        ) == ["1"]
        shown = set(page.run("return [...document.querySelectorAll('[data-pid]')].map(e => +e.dataset.pid)"))
        assert shown == set(one.worker_pids())
        assert "GET /dashboard/events" in page.text("#flights")
        page.run("""
            window.seen = new Set();
            new MutationObserver(() => document.querySelectorAll('[data-generation]').forEach(
                (e) => window.seen.add(document.querySelectorAll('[data-generation]').length + ':' + e.dataset.generation)
            )).observe(document.body, {childList: true, subtree: true});
        """)
        one.apidctl("reload")
        wait_until(lambda: page.text("#history tbody").count("reload to 2") == 1, "the reload in the history", 20)
        wait_until(lambda: "generation 2: 2 of 2" in page.text("#line"), "the new generation", 20)
        wait_until(
            lambda: (
                page.run("return [...document.querySelectorAll('[data-generation]')].map(e => e.dataset.generation)")
                == ["2"]
            ),
            "the old generation's end",
            20,
        )
        assert "2:2" in page.run("return [...window.seen]")  # both generations stood there at once
        assert "ok" in page.text("#history tbody")
        width = page.run("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1], "the page is wider than the window"
        ground = page.run("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 3 * 128) is dark
        page.screenshot(shots / f"{name}.png")
        assert page.complaints() == []
