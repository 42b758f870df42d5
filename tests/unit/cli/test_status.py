"""What `apidctl status` and `top` make of documents: rates, quantiles, columns that fit, lines of a screen."""

from __future__ import annotations

import copy
import doctest

import pytest

from apid.cli import columns, figures, sample, status_table, summary, top_screen
from apid.cli.sample import Sample
from apid.cli.top_screen import View
from tests.support.status_document import document, threads, worker


@pytest.mark.parametrize("module", [figures, sample])
def test_the_examples_in_the_docstrings(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def later(before, seconds=2.0, requests=100, bound=4096):
    """The document after `requests` more in worker 0, each of `bound` microseconds."""
    now = copy.deepcopy(before)
    now["uptime"] += seconds
    now["totals"]["requests"] += requests
    now["totals"]["status_5xx"] += 4
    now["latency"]["buckets"].append([bound, requests])
    first = now["workers"][0]
    first["requests"] += requests
    first["latency"]["buckets"].append([bound, requests])
    first["uptime"] += seconds
    return now


def texts(lines):
    return ["".join(text for text, _ in line) for line in lines]


def test_rates_and_quantiles_are_those_between_two_documents():
    before = document()
    found = Sample.of(before, later(before))
    assert found.traffic == sample.Traffic(50.0, 0.004032, 0.004032)
    assert found.errors == 2.0
    busy, idle = found.seats
    assert busy.traffic == sample.Traffic(50.0, 0.004032, 0.004032)
    assert idle.traffic == sample.Traffic(0.0, None, None)


@pytest.mark.parametrize("microseconds", [0, 7, 31, 32, 33, 1000, 12_345, 999_999, 59_000_000])
def test_a_quantile_is_within_five_percent_of_the_truth(microseconds):
    from apid.scoreboard import bucket, bucket_bounds

    found = sample.quantile([(bucket_bounds(bucket(microseconds))[1], 1)], 0.5)
    assert found * 1e6 == pytest.approx(microseconds, rel=0.05, abs=0.5)


def test_without_an_earlier_document_all_counts_from_the_start():
    found = Sample.of(None, document())
    assert found.seconds == 0
    assert found.traffic.rate == pytest.approx(3000 / 90_061)
    assert found.seats[0].traffic.rate == pytest.approx(1000 / 3723.5)
    assert found.seats[0].traffic.p50 == 0.001008


def test_a_daemon_that_was_started_again_is_not_compared_with_the_former():
    assert Sample.of(document(pid=1), document()).seconds == 0
    assert Sample.of(document(uptime=1e6), document()).seconds == 0


def test_a_worker_that_is_new_counts_from_its_own_start():
    before = document([worker(0)])
    now = document([worker(0), worker(1, uptime=0.5, requests=10)], uptime=before["uptime"] + 1)
    assert Sample.of(before, now).seats[1].traffic.rate == 20.0


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_columns_fit_and_the_important_ones_stay(width):
    found = Sample.of(None, document([worker(slot, pid=1_234_567 + slot) for slot in range(32)]))
    fitting = columns.fitting(found.seats, width)
    titles = [column.title for column, _ in fitting]
    assert sum(room + 2 for _, room in fitting) - 2 <= width
    assert titles == [column.title for column in columns.COLUMNS if column.title in titles]
    if width >= 80:
        assert {"SLOT", "GEN", "STATE", "REQ/S", "P99", "CONN", "BUSY", "OLDEST"} <= set(titles)
    if width >= 200:
        assert set(titles) == {column.title for column in columns.COLUMNS} - {"THREADS", "GIL", "STUCK"}


def test_what_is_ill_is_loud():
    ill = worker(0, stalled=True, beat_age=7.0, in_flight=1000, cause="hung", oldest=None)
    seat = Sample.of(None, document([ill])).seats[0]
    shown = {column.title: (column.text(seat), column.tone(seat)) for column in columns.COLUMNS}
    assert shown["STATE"] == ("stalled", "bad")
    assert shown["LAG"] == ("silent 7.0s", "bad")
    assert shown["BUSY"] == ("1000/1000", "bad")
    assert shown["LAST END"] == ("now: hung", "bad")
    assert shown["OLDEST"][0] == "-"


def test_the_summary_has_the_daemon_its_listeners_and_its_last_change():
    lines = texts(summary.lines(Sample.of(None, document())))
    assert lines[0] == "apid 0.1.0  pid 4700  up 25h  running, generation 7: 2 of 2 workers ready"
    assert "listening on 127.0.0.1:8080 (main)  queue 3/4096  dropped 1" in lines
    assert "listening on unix:/run/apid/api (local)" in lines
    assert lines[-1] == "last reload ok 60s ago: generation 7 is ready (2 workers)"


def test_the_table_on_paper_has_a_row_a_worker(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    status_table.show(Sample.of(None, document([worker(0), worker(1, generation=8, stage="booting")])))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    head, first, second = out.splitlines()[-3:]
    assert "engine eventlet" in out.splitlines()
    assert head.split()[:4] == ["SLOT", "PID", "GEN", "STATE"]
    assert head.split()[-3:] == ["ENGINE", "LAST", "END"]
    assert first.split()[:4] == ["0", "4770", "7", "ready"]
    assert second.split()[:4] == ["1", "4781", "8", "booting"]


def test_no_workers_is_said(capsys):
    status_table.show(Sample.of(None, document([])))
    assert "no workers" in capsys.readouterr().out


def test_native_threads_and_the_slots_that_are_stuck():
    found = Sample.of(None, document([threads(0), threads(1, stuck=2), worker(0, generation=6)]))
    assert (
        texts(summary.lines(found))[2] == "engine eventlet, threads  native threads 10  GIL wait 120us  2 slots stuck"
    )
    shown = {
        column.title: [column.text(seat) for seat in found.seats] for column, _ in columns.fitting(found.seats, 200)
    }
    assert shown["STUCK"] == ["0", "2", "0"]
    assert shown["THREADS"] == ["5", "5", "-"]
    assert shown["GIL"] == ["120us", "120us", "-"]
    tones = {column.title: [column.tone(seat) for seat in found.seats] for column in columns.COLUMNS}
    assert tones["STUCK"] == tones["OLDEST"] == ["plain", "bad", "plain"]
    assert "STUCK" in [column.title for column, _ in columns.fitting(found.seats, 78, gap=1)]
    free = Sample.of(None, document([threads(0, gil=False)]))
    assert texts(summary.lines(free))[2] == "engine threads  native threads 5  GIL off"


# -- top


def screen(view, workers=3, width=80, height=24, trouble=""):
    found = Sample.of(None, document([worker(slot, connections=slot % 5) for slot in range(workers)]))
    return texts(top_screen.lines(found, view, width, height, trouble))


@pytest.mark.parametrize("height", [3, 8, 24, 100])
@pytest.mark.parametrize("requests", [False, True])
def test_a_screen_is_as_high_as_it_is(height, requests):
    lines = screen(View(requests=requests), workers=40, height=height)
    assert len(lines) == height
    assert lines[-1].startswith("q quit")


def test_sorting_by_a_column_from_the_greatest_and_turned():
    view = View()
    while columns.COLUMNS[view.sort].title != "CONN":
        view = view.press(">", 10)
    rows = [line.split() for line in screen(view, workers=5)]
    at = next(number for number, row in enumerate(rows) if row[:1] == ["SLOT"])
    assert [row[0] for row in rows[at + 1 : at + 6]] == ["4", "3", "2", "1", "0"]
    assert any(word.startswith("CONNv") for word in rows[at])
    rows = [line.split() for line in screen(view.press("-", 10), workers=5)]
    assert [row[0] for row in rows[at + 1 : at + 6]] == ["0", "1", "2", "3", "4"]


def test_requests_by_age_with_their_ids_where_there_is_room():
    lines = screen(View().press("r", 10), width=140)
    at = next(number for number, line in enumerate(lines) if line.lstrip().startswith("AGE"))
    assert [line.split()[0] for line in lines[at + 1 : at + 7]] == ["1.2s"] * 3 + ["500ms"] * 3
    assert lines[at + 1].endswith("req-0-1")
    assert "req-" not in "".join(screen(View().press("r", 10), width=80))


def test_a_request_that_is_stuck_is_called_so_in_eighty_columns():
    found = Sample.of(None, document([threads(0, stuck=1)]))
    lines = texts(top_screen.lines(found, View().press("r", 10), 80, 24))
    rows = [line for line in lines if "HTTP/1.1" in line]
    assert [row.split()[3] for row in rows] == ["stuck:", "POST"]
    assert max(map(len, rows)) < 80


def test_scrolling_stops_at_the_end_and_keeps_the_head():
    view = View()
    for _ in range(10):
        view = view.press("pgdn", 16)
    lines = screen(view, workers=40)
    assert any(line.startswith("SLOT") for line in lines)
    assert any(line.split()[:1] == ["39"] for line in lines)
    assert view.press("home", 16).first == 0
    assert View().press("up", 16).first == 0


def test_trouble_and_a_held_picture_are_told_in_the_first_line():
    assert screen(View(), trouble="cannot talk to a daemon")[0] == "cannot talk to a daemon"
    assert screen(View().press(" ", 10))[0].startswith("HELD")
