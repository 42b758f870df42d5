"""egg:apid#metrics: what Prometheus reads, its names and units, and the files that are made of the names."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from apid.wsgi.monitoring.families import BOUNDS, buckets
from apid.wsgi.monitoring.metrics import app as factory
from tests.support.status_document import document, mold, threads, worker

TOP = pathlib.Path(__file__).resolve().parents[2]
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Page:
    """An answer of the app for a document."""

    def __init__(self, found=None, accept="", method="GET", environ=None):
        self.headers = {}
        status = {"apid.status": lambda **_: found or document()} if environ is None else environ

        def start_response(line, headers, exc_info=None):
            self.code, self.headers = int(line[:3]), dict(headers)

        request = {"REQUEST_METHOD": method, "PATH_INFO": "/", "HTTP_ACCEPT": accept, **status}
        self.body = b"".join(factory({})(request, start_response)).decode()

    @property
    def samples(self):
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in parse_text(self.body)
            for sample in family.samples
        }

    def value(self, name, **labels):
        return self.samples[(name, *sorted(labels.items()))]


def test_counters_and_gauges_say_what_the_document_says():
    page = Page()
    assert page.code == 200
    assert page.value("apid_http_requests_total") == 3000
    assert page.value("apid_http_responses_total", **{"class": "4xx"}) == 80
    assert page.value("apid_worker_ends_total", cause="crash:SIGKILL") == 2
    assert page.value("apid_changes_total", kind="reload", verdict="failed") == 1
    assert page.value("apid_worker_oldest_request_seconds", slot="1", generation="7") == 1.25
    assert page.value("apid_listener_queue", listener="main", address="127.0.0.1:8080") == 3
    assert ("apid_listener_queue", ("address", "unix:/run/apid/api"), ("listener", "local")) not in page.samples


def test_two_workers_in_one_seat_are_one_series():
    page = Page(document([worker(0, requests=1), worker(0, pid=9, beat_age=4.0, stage="draining")]))
    assert page.value("apid_worker_connections", slot="0", generation="7") == 24
    assert page.value("apid_worker_beat_age_seconds", slot="0", generation="7") == 4.0
    assert page.value("apid_workers", stage="draining") == 1


def test_what_only_native_threads_have_is_absent_under_eventlet():
    page = Page(document([threads(0, stuck=2), worker(1), threads(0, pid=9, gil_wait=0.5)]))
    assert page.value("apid_engine_workers", engine="threads") == 2
    assert page.value("apid_engine_workers", engine="eventlet") == 1
    assert page.value("apid_worker_threads", slot="0", generation="7") == 10
    assert page.value("apid_worker_stuck_requests", slot="0", generation="7") == 2
    assert page.value("apid_worker_gil_wait_seconds", slot="0", generation="7") == 0.5
    assert page.value("apid_worker_gil_enabled", slot="1", generation="7") == 1
    assert ("apid_worker_threads", ("generation", "7"), ("slot", "1")) not in page.samples


def test_the_histogram_is_cumulative_and_its_count_is_all_requests():
    page = Page()
    assert page.value("apid_http_request_duration_seconds_bucket", le="0.001024") == 2700
    assert page.value("apid_http_request_duration_seconds_bucket", le="0.002048") == 2970
    assert page.value("apid_http_request_duration_seconds_bucket", le=repr(BOUNDS[-1] / 1e6)) == 2999
    assert page.value("apid_http_request_duration_seconds_bucket", le="+Inf") == 3000
    assert page.value("apid_http_request_duration_seconds_count") == 3000
    assert page.value("apid_http_request_duration_seconds_sum") == 7.5


def test_each_exposed_bound_is_a_bound_of_the_scoreboard():
    """Else a bucket would straddle it, and counts below a bound would not be exact."""
    from apid.scoreboard import BUCKETS, bucket_bounds

    assert set(BOUNDS) <= {bucket_bounds(index)[1] for index in range(BUCKETS)}
    assert list(BOUNDS) == sorted(BOUNDS)
    assert buckets([])[-1] == ("+Inf", 0)


def test_openmetrics_when_asked_for():
    page = Page(accept=OPENMETRICS)
    assert page.headers["Content-Type"].startswith("application/openmetrics-text")
    families = {family.name for family in parse_openmetrics(page.body)}
    assert "apid_http_requests" in families
    assert Page().headers["Content-Type"].startswith("text/plain")


def test_a_daemon_that_never_reloaded_has_no_last_change():
    page = Page(document(last_change=None, history=[]))
    assert not [key for key in page.samples if key[0].startswith("apid_last_change")]


def test_another_server_and_other_methods():
    assert Page(environ={}).code == 404
    page = Page(method="POST")
    assert (page.code, page.headers["Allow"]) == (405, "GET, HEAD")
    page = Page(method="HEAD")
    assert (page.code, page.body) == (200, "")
    assert int(page.headers["Content-Length"]) > 1000


def exposed() -> dict[str, tuple[str, set[str]]]:
    """Metric -> (type, labels), as a scrape shows it."""
    found = {}
    for family in parse_text(Page(document([threads(0)], molds=[mold()])).body):
        name = family.name + "_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
    return found


def test_the_documentation_lists_exactly_what_is_exposed():
    rows = re.findall(
        r"^\| `(apid_\w+)` \| (\w+) \|([^|]*)\|", (TOP / "docs/METRICS.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    described = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert described == exposed()


@pytest.mark.parametrize("file", ["docs/METRICS.md", "docs/grafana.json"])
def test_every_name_in_the_files_for_operators_is_exposed(file):
    names = set(re.findall(r"\bapid_(?:\w+)", (TOP / file).read_text(encoding="utf-8")))
    known = set(exposed()) | {"apid_http_request_duration_seconds_bucket"}
    assert names - known == set()
    assert names


def test_the_grafana_dashboard_is_whole():
    board = json.loads((TOP / "docs/grafana.json").read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) > 10
    assert all(target["expr"] for panel in board["panels"] for target in panel["targets"])
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]}
    assert len(places) == len(ids)


@pytest.mark.slow
def test_promtool_finds_nothing():
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    done = subprocess.run(
        ["promtool", "check", "metrics", "--extended"], input=Page().body, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
