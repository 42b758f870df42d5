"""Counts in shared memory: exact for any number of processes and threads, usable after any death, bounded, and nobody else's."""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from apid.wsgi.ratelimit import sharedtable
from apid.wsgi.ratelimit.charge import StorageError
from apid.wsgi.ratelimit.sharedtable import SharedTable
from tests.wsgi.ratelimit_table import HUNDRED, first_cell, passed

WORKER = """
import sys
from paste.deploy import loadapp
app = loadapp("config:" + sys.argv[1], name=sys.argv[2])
def ask():
    seen = []
    for _ in app({"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/"}, lambda status, *rest: seen.append(status)): pass
    return seen[0] == "200 OK"
print("ready", flush=True)
for line in sys.stdin:
    print(sum(ask() for _ in range(int(line))), flush=True)
"""

INI = """
[pipeline:main]
pipeline = limited ok

[pipeline:other]
pipeline = limited2 ok

[filter:limited]
use = egg:apid#ratelimit
limits = (GET, *, .*, 100, DAY)
state_dir = {state}

[filter:limited2]
use = limited
name = other

[app:ok]
use = egg:apid#healthcheck
"""


class Workers:
    """Processes that load a pipeline each, after their start, as apid's workers do."""

    def __init__(self, command=(sys.executable, "-W", "ignore", "-c", WORKER)):
        self.command = command
        self.started = []

    def start(self, count, ini, app="main"):
        new = [
            subprocess.Popen([*self.command, ini, app], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        self.started += new
        for worker in new:
            assert worker.stdout.readline() == "ready\n"
        return new

    @staticmethod
    def ask(workers, requests):
        for worker in workers:
            worker.stdin.write(f"{requests}\n")
            worker.stdin.flush()
        return sum(int(worker.stdout.readline()) for worker in workers)

    @staticmethod
    def stop(workers):
        for worker in workers:
            worker.stdin.close()
            worker.wait(10)
            worker.stdout.close()


@pytest.fixture
def workers():
    made = Workers()
    yield made
    made.stop([worker for worker in made.started if not worker.stdin.closed])


@pytest.fixture
def ini(tmp_path):
    path = tmp_path / "api-paste.ini"
    path.write_text(INI.format(state=tmp_path))
    return str(path)


# --- T2: exactly N ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 4])
def test_t2_exactly_n_of_5n_get_through(workers, ini, count):
    some = workers.start(count, ini)
    assert workers.ask(some, 500 // count) == 100


def test_a_reload_keeps_the_counts_and_another_name_has_its_own(workers, ini):
    old = workers.start(1, ini)
    assert workers.ask(old, 60) == 60
    new = workers.start(1, ini)
    workers.stop(old)
    assert workers.ask(new, 60) == 40
    assert workers.ask(workers.start(1, ini, "other"), 120) == 100


def test_two_daemons_do_not_mix(workers, ini, tmp_path):
    assert workers.ask(workers.start(1, ini), 60) == 60
    between = Workers((sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *workers.command))
    another_parent = between.start(1, ini)
    assert between.ask(another_parent, 120) == 100
    between.stop(another_parent)
    elsewhere = tmp_path / "other.ini"
    elsewhere.write_text(INI.format(state=tmp_path))
    assert workers.ask(workers.start(1, str(elsewhere)), 120) == 100


def test_threads_of_one_process(table):
    got = []
    threads = [threading.Thread(target=lambda: got.append(passed(table, hits=100))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 100


def test_loaded_before_the_fork(table):
    """As gunicorn --preload does: the lock must not be shared with the child."""
    assert passed(table, hits=10) == 10
    fds = [os.pipe() for _ in range(2)]
    children = []
    for _, write in fds:
        pid = os.fork()
        if pid == 0:
            os.write(write, bytes([passed(table, hits=100)]))
            os._exit(0)
        children.append(pid)
    got = [os.read(read, 1)[0] for read, _ in fds]
    for pid in children:
        os.waitpid(pid, 0)
    for pair in fds:
        for fd in pair:
            os.close(fd)
    assert sum(got) == 90
    assert passed(table) == 0


def test_two_openings_in_one_process_exclude_each_other(tmp_path, table, impatient):
    other = SharedTable(tmp_path / "table", 1)
    assert passed(table, hits=60) + passed(other, hits=60) == 100
    table._lock(3)
    with pytest.raises(StorageError, match="holds its lock for more than"):
        other._lock(3)
    fcntl.fcntl(table._fd, fcntl.F_OFD_SETLK, sharedtable._UNLOCK[3])
    other.close()


# --- death and standstill --------------------------------------------------------------------------------------------

HOLDER = """
import os, sys, time
from apid.wsgi.ratelimit.sharedtable import STRIPES, SharedTable
from pathlib import Path
table = SharedTable(Path(sys.argv[1]), 1)
for stripe in range(STRIPES):
    table._lock(stripe)
print("held", flush=True)
time.sleep(60)
"""

HAMMER = """
import sys
from apid.wsgi.ratelimit.sharedtable import SharedTable
from apid.wsgi.ratelimit.limit import Limit
from pathlib import Path
table = SharedTable(Path(sys.argv[1]), 1)
limits = [Limit.make("GET", "*", ".*", 100, unit) for unit in ("MINUTE", "HOUR", "DAY")]
for user in range(100):
    table.charge(b"%d" % user, limits)
print("held", flush=True)
while True:
    for user in range(2000):
        table.charge(b"%d" % user, limits)
"""


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(sharedtable, "LOCK_TIMEOUT", 0.1)


@contextlib.contextmanager
def process(code, path):
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"held\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_a_holder_that_is_killed_leaves_the_table_usable(tmp_path, table, impatient):
    assert passed(table, hits=50) == 50
    with process(HOLDER, tmp_path / "table") as child:
        with pytest.raises(StorageError):
            table.charge(b"u", [HUNDRED])
        child.kill()
        child.wait()
        assert passed(table, hits=100) == 50


def test_a_holder_that_is_stopped_is_not_waited_for_long(tmp_path, table, impatient):
    with process(HOLDER, tmp_path / "table") as child:
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(StorageError, match="holds its lock"):
            table.charge(b"u", [HUNDRED])


def test_killed_anywhere(tmp_path, table):
    """Twenty writers killed at moments nobody chose: each bucket still holds at most its limit, and counting goes on."""
    for _ in range(4):
        with contextlib.ExitStack() as stack:
            children = [stack.enter_context(process(HAMMER, tmp_path / "table")) for _ in range(2)]
            select.select([], [], [], 0.05)  # let them write; any length would do
            for child in children:
                child.kill()
    cells = table._cells
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    times = [
        at
        for number in range(sharedtable.STRIPES)
        for at in cells[first_cell(number) : first_cell(number) + sharedtable.WAYS].tolist()
    ]
    assert max(times) > now  # they did write
    assert max(times) <= now + 86400 * 10**9
    assert passed(table, hits=150, user=b"afterwards") == 100
