"""The guard's judgement of one worker: a table over its row."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time

import pytest

from apid import log, scoreboard
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
def test_who_is_ended(board, state, beat, until, now, ended):
    row = board.row(0)
    row.cells[scoreboard.STATE] = state
    row.cells[scoreboard.BEAT_NS] = int(beat * 1e9)
    row.cells[scoreboard.UNTIL_NS] = int(until * 1e9)
    assert bool(guard.overdue(row.cells, int(DIED * 1e9), int(now * 1e9))) is ended


@pytest.fixture
def ward(board):
    """A process that sleeps, as a worker that has been silent since the parent's death, long ago."""
    row = board.row(0)
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


def run_guard(board, settings, err, before=lambda: None):
    """Run a guard whose parent is dead already, with its standard error in the file `err`; returns its exit code.

    `before` is called in its process.
    """
    with subprocess.Popen(["true"]) as parent:
        pidfd = os.pidfd_open(parent.pid)
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT), 2)
                before()
                guard._guard(board, settings, pidfd)
            finally:
                os._exit(1)
        os.close(pidfd)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def seated(board, ward):
    """A scoreboard with the silent worker in a seat."""
    board.row(0).take(ward[1].pid, 0, 1)
    return board


def test_the_pids_of_an_abandoned_scoreboard_are_nobodys(ward, seated, tmp_path):
    """An upgrade did not take it over; its seats were kept no longer, and a pid may be another process's since."""
    scoreboard.Scoreboard.abandon(seated.fds[1])
    assert run_guard(seated, SETTINGS, tmp_path / "err") == 0
    assert ward[1].poll() is None


@pytest.mark.parametrize("was_open", [False, True])
def test_where_it_cannot_open_the_log_it_writes_to_the_standard_error(ward, seated, tmp_path, was_open):
    (tmp_path / "logs").mkdir()
    settings = dataclasses.replace(SETTINGS, log=Log(log_file=str(tmp_path / "logs" / "log")))

    def before():
        if was_open:  # as in the parent: the guard closes what it inherits
            log.setup(settings.log, identity="")
        (tmp_path / "logs").rename(tmp_path / "gone")

    assert run_guard(seated, settings, tmp_path / "err", before) == 0
    assert ward[1].wait(10) == -signal.SIGKILL
    assert f"pid={ward[1].pid} is killed: the parent is gone" in (tmp_path / "err").read_text()
