"""The scoreboard: one writer a row, readable at any moment from another process."""

import os
import time

import pytest

from apid import scoreboard
from apid.posix import processes
from apid.scoreboard import Row, Scoreboard


@pytest.fixture
def board():
    board = Scoreboard.create()
    yield board
    os.close(board.fd)


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
    again = Scoreboard.attach(os.dup(board.fd))
    assert again is not None
    assert again.row(5).cells[scoreboard.REQUESTS] == 9
    os.close(again.fd)


def test_another_layout_is_not_mapped(board):
    board._memory[0:8] = (99).to_bytes(8, "little")
    assert Scoreboard.attach(board.fd) is None
    fd = os.memfd_create("other")
    assert Scoreboard.attach(fd) is None
    os.close(fd)


def test_a_row_outside_is_an_error(board):
    with pytest.raises(IndexError):
        board.row(scoreboard.ROWS)
    assert isinstance(board.row(0), Row)


def test_a_request_id_is_a_uuid_of_version_4():
    text = scoreboard.request_id(0xFEDCBA9876544210, 0xBFFF, 2**48 + 5)
    assert text == "req-fedcba98-7654-4210-bfff-000000000005"


def test_totals_never_go_back_for_a_reader_in_another_process_while_rows_are_folded(board):
    """Workers count, die and are folded; another process adds up all the while and must see a number that only grows."""
    for row in range(4):
        board.row(row).clear()
        board.row(row).cells[scoreboard.PID] = 1
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
        row.cells[scoreboard.PID] = 1
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


@pytest.mark.parametrize("descriptor", ["open", "closed"])
def test_a_private_copy_is_written_by_nobody_else(board, descriptor):
    row = board.row(3)
    row.cells[scoreboard.REQUESTS] = 7

    def child():
        if descriptor == "closed":
            os.close(board.fd)
        board.make_private()
        kept = row.cells[scoreboard.REQUESTS]
        row.cells[scoreboard.REQUESTS] = 100
        row.depart(b"GET / HTTP/1.1", 1, 1)
        os._exit(kept)

    pid = processes.fork(child)
    # without the descriptor the copy begins empty
    assert processes.wait(pid) == (7 if descriptor == "open" else 0)
    assert row.cells[scoreboard.REQUESTS] == 7
    assert row.flights() == []
