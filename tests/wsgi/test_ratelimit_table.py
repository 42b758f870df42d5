"""The table of the shared counts: bounded, exact as nova's bucket, and none the worse for nonsense in it."""

import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apid.wsgi.ratelimit import sharedtable
from apid.wsgi.ratelimit.limit import Limit
from apid.wsgi.ratelimit.sharedtable import SharedTable
from tests.wsgi.ratelimit_table import HUNDRED, first_cell, passed


def test_a_full_table_gives_up_what_would_be_idlefirst_cell(tmp_path, table, caplog):
    size = (tmp_path / "table").stat().st_size
    for number in range(3000):
        assert passed(table, user=b"%d" % number) == 1
    assert table.dropped > 1000
    assert (tmp_path / "table").stat().st_size == size
    assert len([record for record in caplog.records if "is full" in record.getMessage()]) == 1  # said once an interval
    assert passed(table, hits=100, user=b"2999") == 99  # the newest are still there


def test_the_heaviest_user_is_kept_while_light_ones_come_and_go(table):
    assert passed(table, hits=100, user=b"heavy") == 100
    for number in range(3000):
        passed(table, user=b"%d" % number)
    assert passed(table, hits=10, user=b"heavy") == 0


def test_idle_buckets_are_taken_over(table):
    quick = Limit.make("GET", "*", ".*", 31000, "SECOND")  # idle again after 32 microseconds
    for number in range(5000):
        assert passed(table, quick, user=b"%d" % number) == 1
    assert table.dropped == 0


def test_no_room_is_an_error_at_load_not_a_crash_later(tmp_path):
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
from apid.wsgi.middleware import ratelimit
try:
    ratelimit.factory({{}}, state_dir={str(tmp_path)!r})
except Exception as error:
    print(type(error).__name__, error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("OptionError ratelimit: option state_dir")


# --- the bucket ------------------------------------------------------------------------------------------------------


class Nova:
    """nova's leaky bucket in exact numbers."""

    def __init__(self, capacity, cost):
        self.capacity, self.cost, self.level, self.last = capacity, cost, 0, 0

    def hit(self, now):
        self.level = max(0, self.level - (now - self.last)) + self.cost
        self.last = now
        surplus = self.level - self.capacity
        if surplus > 0:
            self.level -= self.cost
        return max(0, surplus)


@given(
    value=st.sampled_from([1, 2, 3, 4, 5, 6, 10]),
    steps=st.lists(st.one_of(st.integers(0, 10**9), st.integers(0, 70 * 10**9)), max_size=60),
)
def test_it_leaks_as_novas_does(tmp_path_factory, value, steps):
    limit = Limit.make("GET", "*", ".*", value, "MINUTE")
    nova = Nova(limit.capacity, limit.cost)
    table = SharedTable(tmp_path_factory.mktemp("t") / "table", 1)
    now = 10**12
    try:
        with pytest.MonkeyPatch.context() as patch:
            for step in steps:
                now += step
                patch.setattr(time, "clock_gettime_ns", lambda _, now=now: now)
                charge = table.charge(b"u", [limit])[0]
                assert charge.delay == nova.hit(now) / 1e9
                assert charge.remaining == (limit.capacity - nova.level) * value // limit.capacity
    finally:
        table.close()


def test_limits_and_users_have_buckets_of_their_own(table):
    other = Limit.make("GET", "*", ".*", 3, "DAY")
    charges = [table.charge(b"u", [HUNDRED, other]) for _ in range(5)]
    assert [one.delay == 0 for _, one in charges] == [True, True, True, False, False]
    assert [one.remaining for one, _ in charges] == [
        99,
        98,
        97,
        96,
        95,
    ]  # as in nova: also of a request that another refused
    assert table.charge(b"v", [other])[0].remaining == 2
    assert table.peek(b"v", [other])[0].remaining == table.peek(b"v", [other])[0].remaining == 2


def test_a_clock_from_before_a_reboot_is_at_most_full(table):
    table.charge(b"u", [HUNDRED])
    for number in range(sharedtable.STRIPES):
        for way in range(sharedtable.WAYS):
            if table._cells[first_cell(number) + way]:
                table._cells[first_cell(number) + way] = 2**64 - 1
    charge = table.charge(b"u", [HUNDRED])[0]
    assert 0 < charge.delay <= 864.0
