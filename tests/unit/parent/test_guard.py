"""The guard's judgement of one worker: a table over its row."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from apid import scoreboard
from apid.conf.settings import Daemon, Http, Log, Settings
from apid.parent import guard
from apid.parent.dismissal import GRACE
from apid.parent.watch import SILENT

DIED = 1000.0
SETTINGS = Settings(Daemon(1), Http(), Log(), (), ())
READY, DRAINING, BOOTING = scoreboard.State.READY, scoreboard.State.DRAINING, scoreboard.State.BOOTING


@pytest.mark.parametrize(
    ("state", "beat", "until", "now", "ended"),
    [
        (READY, DIED - 0.1, 0, DIED + SILENT - 0.1, False),
        (READY, DIED - 30, 0, DIED + SILENT - 0.1, False),
        (READY, DIED - 30, 0, DIED + SILENT + 0.1, True),
        (READY, DIED + 1, 0, DIED + SILENT + 0.5, False),
        (READY, DIED + 1, 0, DIED + 1 + SILENT + 0.1, True),
        (READY, DIED + GRACE, 0, DIED + GRACE + 0.1, True),
        (DRAINING, DIED - 30, DIED + 60, DIED + 60 + GRACE - 0.1, False),
        (DRAINING, DIED - 30, DIED + 60, DIED + 60 + GRACE + 0.1, True),
        (DRAINING, DIED - 30, 0, DIED + 1e6, False),
        (BOOTING, 0, 0, DIED + 1e6, False),
    ],
)
def test_who_is_ended(state, beat, until, now, ended):
    row = scoreboard.Scoreboard.create().row(0)
    row.cells[scoreboard.STATE] = state
    row.cells[scoreboard.BEAT_NS] = int(beat * 1e9)
    row.cells[scoreboard.UNTIL_NS] = int(until * 1e9)
    assert bool(guard.overdue(row.cells, int(DIED * 1e9), int(now * 1e9))) is ended


@pytest.fixture
def ward():
    """A process that sleeps, as a worker that has been silent since the parent's death, long ago."""
    row = scoreboard.Scoreboard.create().row(0)
    row.cells[scoreboard.STATE] = READY
    with subprocess.Popen(["sleep", "60"]) as process:
        pidfd = os.pidfd_open(process.pid)
        yield guard.Ward(process.pid, pidfd, row), process
        os.close(pidfd)
        process.kill()


def test_a_worker_is_killed_once(ward, caplog):
    one, process = ward
    assert guard.judge([one], time.monotonic_ns()) == [one]
    assert process.poll() is None
    assert guard.judge([one], 0) == [], "whether or not it could be killed"
    assert process.wait(10) == -signal.SIGKILL
    assert len([line for line in caplog.messages if "is killed" in line]) == 1
    assert guard.judge([one], 0) == []
    assert len([line for line in caplog.messages if "is killed" in line]) == 1


def test_the_pids_of_an_abandoned_scoreboard_are_nobodys(ward):
    """An upgrade did not take it over; its seats were kept no longer, and a pid may be another process's since."""
    _, process = ward
    board = scoreboard.Scoreboard.create()
    board.row(0).cells[scoreboard.STATE] = READY
    board.row(0).take(process.pid, 0, 1)
    scoreboard.Scoreboard.abandon(board.fds[1])
    parent = subprocess.Popen(["true"])
    pidfd = os.pidfd_open(parent.pid)
    pid = os.fork()
    if pid == 0:
        try:
            guard._guard(board, SETTINGS, pidfd)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    parent.wait()
    os.close(pidfd)
    assert process.poll() is None
