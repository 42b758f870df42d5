"""The scoreboard: one writer a row, readable at any moment from another process."""

import ctypes
import fcntl
import functools
import json
import mmap
import os
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import exposition

from apid import flight, scoreboard, status
from apid.cli import summary, top_screen
from apid.cli.columns import COLUMNS
from apid.cli.sample import Sample
from apid.logformats import escape
from apid.posix import processes
from apid.scoreboard import Row, Scoreboard
from apid.wsgi.monitoring.families import Families
from tests.support.processes import descriptors
from tests.support.status_document import document, mold, worker


def test_every_bucket_holds_exactly_its_bounds():
    for index in range(scoreboard.BUCKETS):
        low, high = scoreboard.bucket_bounds(index)
        assert scoreboard.bucket(low) == scoreboard.bucket(high - 1) == index
        assert (high - low) / max(low, 1) <= 1 / 16 or high - low == 1


def test_latencies_past_the_last_bucket_count_in_it():
    assert scoreboard.bucket(10**12) == scoreboard.BUCKETS - 1
    assert scoreboard.bucket_bounds(scoreboard.BUCKETS - 1)[1] >= 60_000_000


def test_a_flight_is_seen_by_a_reader_and_gone_when_landed(board):
    writer, reader = board.row(3), board.row(3)
    started = time.monotonic_ns() - 2_000_000_000
    entry = writer.depart(b"GET /" + b"x" * 300 + b" HTTP/1.1", 7, started)
    [flight] = reader.flights()
    assert flight.line == "GET /" + "x" * (scoreboard.FLIGHT_LINE - 5)
    assert flight.number == 7
    assert 2.0 <= flight.age(time.monotonic_ns()) < 60
    writer.land(entry)
    assert reader.flights() == []


def test_a_flight_that_is_stuck_keeps_its_number_and_is_called_so(board):
    row = board.row(3)
    now = time.monotonic_ns()
    entries = [row.depart(b"GET /%d HTTP/1.1" % number, number, now) for number in (7, 8)]
    row.stick(entries[0], 7)
    row.stick(-1, 9)  # one that found no entry
    assert {(flight.number, flight.stuck) for flight in row.flights()} == {(7, True), (8, False)}
    assert {text.endswith(", stuck)") for text in row.in_flight()} == {True, False}
    row.land(entries[0])
    assert row.depart(b"GET / HTTP/1.1", 9, now) == entries[0]
    assert not any(flight.stuck for flight in row.flights())


def test_only_the_oldest_flights_are_listed_where_few_are_asked_for(board):
    row = board.row(0)
    for number, started in enumerate([50, 20, 90, 10, 70]):
        row.depart(b"GET /%d HTTP/1.1" % number, number, started)
    assert [(flight.number, flight.started_ns) for flight in row.flights(2)] == [(3, 10), (1, 20)]
    assert [flight.started_ns for flight in row.flights()] == [10, 20, 50, 70, 90]
    assert row.flights(1)[0].line == "GET /3 HTTP/1.1"


def test_more_flights_than_entries_are_not_recorded_and_not_an_error(board):
    row = board.row(0)
    entries = [row.depart(b"GET / HTTP/1.1", n, 1) for n in range(scoreboard.FLIGHTS + 2)]
    assert entries[-2:] == [-1, -1]
    for entry in entries:
        row.land(entry)
    assert row.flights() == []


def test_rows_do_not_touch(board):
    first, second = board.row(0), board.row(1)
    first.clear()
    second.clear()
    for index in range(len(first.cells)):
        first.cells[index] = 2**64 - 1
    for entry in range(scoreboard.FLIGHTS):
        first.depart(b"y" * 500, entry, 2**63)
    assert set(second.cells) == {0}
    assert second.flights() == []


def test_another_process_counts_and_this_one_reads(board):
    pid = os.fork()
    if pid == 0:
        board.row(2).cells[scoreboard.REQUESTS] = 42
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.row(2).cells[scoreboard.REQUESTS] == 42


def test_an_upgrade_maps_the_same_memory(board):
    board.row(5).cells[scoreboard.REQUESTS] = 9
    board.row(5).take(77, 0, 1)
    board.leaving = True
    again = Scoreboard.attach(*map(os.dup, board.fds))
    assert again is not None
    assert again.row(5).cells[scoreboard.REQUESTS] == 9
    assert again.row(5).seat.tolist() == [77, 0, 1]
    assert again.leaving
    for fd in again.fds:
        os.close(fd)


def test_another_layout_is_not_mapped(board):
    board._head[0] = 99
    assert Scoreboard.attach(*board.fds) is None
    fd = os.memfd_create("other")
    os.ftruncate(fd, os.fstat(board.fds[0]).st_size)  # another process may still change its size
    assert Scoreboard.attach(fd, board.fds[1]) is None
    assert Scoreboard.attach(board.fds[0], fd) is None
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Scoreboard.attach(fd, board.fds[1])


def test_a_row_outside_is_an_error(board):
    with pytest.raises(IndexError):
        board.row(scoreboard.ROWS)
    assert isinstance(board.row(0), Row)


def test_a_request_id_is_a_uuid_of_version_4():
    text = flight.request_id(0xFEDCBA9876544210, 0xBFFF, 2**48 + 5)
    assert text == "req-fedcba98-7654-4210-bfff-000000000005"


def test_totals_never_go_back_for_a_reader_in_another_process_while_rows_are_folded(board):
    """Workers count, die and are folded; another process adds up all the while and must see a number that only grows."""
    for row in range(4):
        board.row(row).clear()
        board.row(row).take(1, 0, 1)
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(_watch_totals(board, looks=2000))
        finally:
            os._exit(3)
    counted, turn = 0, 0
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        row, turn = board.row(turn % 4), turn + 1
        for _ in range(25):
            row.cells[scoreboard.REQUESTS] += 1
            counted += 1
        board.fold(row)
        row.take(1, 0, 1)
        time.sleep(0.0005)  # or what is seen twice would be hidden by what is counted next
    assert os.waitstatus_to_exitcode(ended[1]) == 0
    assert board.totals(range(4))[0][scoreboard.REQUESTS] == counted


def _watch_totals(board, looks):
    """Add up so often; 0: the sum only grew."""
    highest = 0
    for _ in range(looks):
        counters, _ = board.totals(range(4))
        if counters[scoreboard.REQUESTS] < highest:
            return 1
        highest = counters[scoreboard.REQUESTS]
    return 0


@pytest.mark.parametrize("closed", [False, True])
def test_a_private_copy_is_written_by_nobody_else(board, closed):
    row = board.row(3)
    row.cells[scoreboard.REQUESTS] = 7

    def child():
        if closed:
            board.in_child(row)
        board.make_private(row)
        kept = row.cells[scoreboard.REQUESTS]
        row.cells[scoreboard.REQUESTS] = 100
        row.depart(b"GET / HTTP/1.1", 1, 1)
        os._exit(kept)

    assert processes.wait(processes.fork(child)) == 7
    assert row.cells[scoreboard.REQUESTS] == 7
    assert row.flights() == []


def in_a_worker(board, attack):
    """The exit code of a child that has given up what is the parent's, and then attacks."""

    def child():
        board.in_child(board.row(1))
        attack()
        os._exit(0)

    return processes.wait(processes.fork(child))


@pytest.mark.parametrize("which", [0, 1])
def test_its_size_is_not_changed_by_who_has_the_descriptor(board, which):
    fd, size = board.fds[which], os.fstat(board.fds[which]).st_size
    for wrong in (0, size - 1, size + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, wrong)
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", size)
    assert os.fstat(fd).st_size == size
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_a_worker_has_no_descriptor_of_it(board):
    inherited = board.fds

    def look():
        left = descriptors()
        os._exit(sum(fd in left for fd in inherited))

    assert in_a_worker(board, look) == 0


def test_a_worker_only_reads_what_is_the_parents(board):
    board.row(3).take(4711, 0, 1)
    board.leaving = True

    def write():
        board.leaving = False

    def permit_and_write():
        memory = board._parents
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        done = ctypes.CDLL(None).mprotect(ctypes.c_void_p(memory._address), memory._size, protection)
        os._exit(9 if done == 0 else 0)

    def read():
        os._exit(0 if board.leaving and board.row(3).seat[scoreboard.PID] == 4711 else 1)

    def write_a_siblings():
        board.row(2).cells[scoreboard.REQUESTS] = 1

    def write_its_own():
        board.row(1).cells[scoreboard.REQUESTS] = 1
        board.row(1).depart(b"GET / HTTP/1.1", 1, 1)
        board.row(1).connections[1] = 5

    assert in_a_worker(board, write) == -signal.SIGSEGV
    assert in_a_worker(board, write_a_siblings) == -signal.SIGSEGV
    assert in_a_worker(board, write_its_own) == 0
    assert board.row(1).cells[scoreboard.REQUESTS] == len(board.row(1).flights()) == 1
    assert in_a_worker(board, permit_and_write) == 0
    assert in_a_worker(board, read) == 0
    assert board.leaving


def test_a_worker_of_a_mold_writes_its_row_and_no_other(board):
    board.row(1).cells[scoreboard.REQUESTS] = 3

    def in_a_mold(attack):
        given = os.dup(board.fds[0])
        board.in_child(board.row(1))
        os.setresuid(65534, 65534, 65534) if os.geteuid() == 0 else None  # it can open nothing of the parent's again
        board.move_in(given, board.row(1), board.row(2))
        attack()
        os._exit(0 if given not in descriptors() and board.row(1).cells[scoreboard.REQUESTS] == 0 else 1)

    def write(index):
        board.row(index).cells[scoreboard.REQUESTS] = 5

    attacks = [functools.partial(in_a_mold, functools.partial(write, index)) for index in range(1, 4)]
    assert [processes.wait(processes.fork(attack)) for attack in attacks] == [-signal.SIGSEGV, 0, -signal.SIGSEGV]
    assert [board.row(index).cells[scoreboard.REQUESTS] for index in range(1, 4)] == [3, 5, 0]


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot(2) takes root")
def test_a_worker_without_proc_works_and_only_reads_what_is_the_parents(board, tmp_path):
    def child(attack):
        os.chroot(tmp_path)
        board.in_child(board.row(1))
        attack()
        os._exit(0)

    def write_its_own():
        board.row(1).cells[scoreboard.REQUESTS] = 1

    def write():
        board.leaving = True

    def write_a_siblings():
        board.row(2).cells[scoreboard.REQUESTS] = 1

    attacks = [write_its_own, write, write_a_siblings]
    ends = [processes.wait(processes.fork(functools.partial(child, attack))) for attack in attacks]
    assert ends == [0, -signal.SIGSEGV, -signal.SIGSEGV]
    assert board.row(1).cells[scoreboard.REQUESTS] == 1


EIGHT = st.integers(0, scoreboard.MOST)


@given(
    st.lists(EIGHT, min_size=4, max_size=4), st.dictionaries(st.integers(0, 25_087), EIGHT, max_size=40), st.booleans()
)
def test_whatever_stands_in_a_row_can_be_shown_and_folded(fill, cells, hostile):
    """Arbitrary 64-bit numbers in every region of the rows: sums stop at the greatest number and never go back."""
    memory = BOARD._rows.view
    row = BOARD.row(1)
    start = scoreboard._FIRST_ROW + scoreboard._ROW
    whole = memory[start : start + scoreboard._ROW].cast("Q")
    for at in range(0, len(whole), 512):
        whole[at] = fill[at // 512 % 4]
    if hostile:
        memory[start : start + scoreboard._ROW] = b"\xff" * scoreboard._ROW
        memory[: scoreboard.ROWS * 8] = b"\xff" * (scoreboard.ROWS * 8)
    for at, value in cells.items():
        whole[at % len(whole)] = value
    row.take(4711, 0, 1)
    before, histogram = BOARD.totals([])
    facts = {
        **document(),
        "listeners_omitted": 0,
        "workers": [{**worker(0, pid=4711), "row": 1, "spawned": 0.0}],
        "molds": [{**mold(), "spawned": 0.0}],
        "started": 0.0,
        "history": [],
        "last_end": {},
    }
    shown = status.document(facts, BOARD, lambda _: None, now=time.monotonic(), flights=300)
    json.dumps(shown, allow_nan=False)
    assert shown["workers"][0]["beat_age"] is None or shown["workers"][0]["beat_age"] >= 0
    for one in shown["workers"][0]["flights"]:
        assert escape(one["line"]) == one["line"]
        assert one["age"] >= 0
    sample = Sample.of(shown, {**shown, "uptime": shown["uptime"] + 1})
    for column in COLUMNS:
        for seat in sample.seats:
            assert column.text(seat).isprintable()
            column.key(seat)
            column.tone(seat)
    assert all(text.isprintable() for line in summary.lines(sample) for text, _ in line)
    exposition.generate_latest(Families(shown))
    for width in (40, 200):
        for flag in (True, False):
            top_screen.lines(sample, top_screen.View(requests=flag), width, 30)
    assert all(len(text) < 300 for text in row.in_flight())
    BOARD.fold(row)
    after, folded = BOARD.totals([])
    assert all(before[cell] <= after[cell] <= scoreboard.MOST for cell in before)
    assert all(was <= now <= scoreboard.MOST for was, now in zip(histogram, folded, strict=True))
    assert row.flights() == []


BOARD = Scoreboard.create()
