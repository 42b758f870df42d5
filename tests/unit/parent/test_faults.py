"""Exceptions that nobody foresaw: logged at a bounded rate, turned into outcomes, slowing the loop down without stopping it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from apid.parent import events, faults
from apid.parent.faults import Faults
from tests.support import processes
from tests.support.processes import wait_until


class TextRaisesError(Exception):
    def __str__(self):
        raise RuntimeError("not even a text")


def test_a_fault_that_persists_is_logged_once_and_counted(caplog, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(faults.time, "monotonic", lambda: now[0])
    found = Faults()
    for _ in range(50):
        with found.caught("publishing"):
            raise ValueError("too long")
    with found.caught("polling"):
        raise ValueError("too long")
    assert [record.getMessage() for record in caplog.records] == [
        "publishing failed: ValueError: too long",
        "polling failed: ValueError: too long",
    ]
    assert "Traceback" in caplog.records[0].block
    now[0] += faults.AGAIN
    found.note("publishing", ValueError("too long"))
    assert caplog.records[-1].getMessage() == (
        "publishing failed: ValueError: too long (49 more times since the last such line)"
    )


def test_faults_without_number_are_forgotten_again(caplog):
    found = Faults()
    for number in range(5 * faults.KEPT):
        found.note("publishing", ValueError(number))
    assert len(found._logged) <= faults.KEPT


def test_noting_never_raises(monkeypatch):
    found = Faults()
    found.note("publishing", TextRaisesError())

    def log(*_args, **_kwargs):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(faults.LOG, "error", log)
    found.note("publishing", ValueError("other"))


def test_the_pause_grows_while_each_turn_has_a_fault_and_ends_with_the_first_good_one():
    found = Faults()
    assert found.pause() == 0
    pauses = []
    for _ in range(20):
        found.note("publishing", ValueError("too long"))
        pauses.append(found.pause())
    assert 0 < pauses[0] < 0.05
    assert pauses == sorted(pauses)
    assert pauses[-1] == faults.LONGEST_PAUSE
    assert found.pause() == 0


@pytest.mark.parametrize("action", [events.Prepare(7), events.Try(7), events.TryProgram(7), events.Exec(7)])
def test_a_step_of_a_change_that_raises_is_the_failure_of_the_change(action):
    try:
        raise OverflowError("too large")
    except OverflowError as error:
        (event,) = faults.outcome(action, error)
    assert (event.generation, event.reason) == (7, "OverflowError: too large")
    assert "Traceback" in event.detail


def test_other_outcomes():
    error = MemoryError()
    assert faults.outcome(events.Spawn(2, 7), error) == [events.SpawnFailed(2, 7, "MemoryError: ")]
    assert faults.outcome(events.Commit(7), error) == [events.Committed(("MemoryError: ",))]
    assert faults.outcome(events.ReopenLogs(), error) == [events.LogsReopened("MemoryError: ")]
    assert faults.outcome(events.Unlisten(abandon=True), error) == []


LOOP = """
    import os, signal, sys, tempfile, pathlib
    from apid.parent import loop
    from tests.support.injection import World
    world = World(pathlib.Path(tempfile.mkdtemp(dir=sys.argv[1])))
    world.start()
    def broken(*_):
        raise RuntimeError("broken for good")
"""


def run(text, tmp_path):
    """Run the rest of a program of LOOP; returns what it printed, its log, and its exit code."""
    program = textwrap.dedent(LOOP) + textwrap.dedent(text)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    log = "".join(path.read_text() for path in tmp_path.glob("*/log-*"))
    assert not done.stderr, done.stderr
    return done.stdout, log, done.returncode


def test_a_loop_that_can_neither_wait_nor_decide_drains_its_workers_and_ends(tmp_path):
    _, log, code = run(
        """
        loop.MOST_FAULTS = 5
        world.loop._selector.select = broken
        raise SystemExit(world.loop.run())
        """,
        tmp_path,
    )
    assert code == 70
    assert "the parent cannot supervise any more" in log
    assert log.count("RuntimeError: broken for good\n  Traceback") == 1


def test_a_plan_that_raises_fails_the_change_and_the_loop_goes_on(tmp_path):
    out, log, _ = run(
        """
        from apid.parent import change_steps
        kept, change_steps.loaded = change_steps.loaded, broken
        world.write()
        print(world.ask("reload"))
        change_steps.loaded = kept
        world.write()
        print(world.ask("reload"))
        os.kill(os.getpid(), signal.SIGTERM)
        raise SystemExit(world.loop.run())
        """,
        tmp_path,
    )
    first, second = [line for line in out.splitlines() if line]
    assert '"ok": false' in first
    assert "generation 1 goes on: a fault of apid: RuntimeError: broken for good" in first
    assert '"ok": true' in second
    assert "Traceback" in log


def test_a_duty_that_always_fails_neither_spins_nor_stops_anything(tmp_path):
    """Publishing fails in each turn: signals are heard at once, reloads succeed, the log has one line."""
    out, log, code = run(
        """
        import time
        world.loop._telling.publish = broken
        world.write()
        print(world.ask("reload"))
        turns, step = [], world.loop.step
        end = time.monotonic() + 2
        while time.monotonic() < end:
            step(); turns.append(1)
        print(len(turns))
        os.kill(os.getpid(), signal.SIGTERM)
        raise SystemExit(world.loop.run())
        """,
        tmp_path,
    )
    lines = [line for line in out.splitlines() if line]
    assert '"ok": true' in lines[0]
    assert int(lines[1]) < 20
    assert code == 0
    assert log.count("RuntimeError: broken for good") == 2  # the line, and the end of its traceback


def test_a_forked_child_is_bound_to_its_parent_before_all_else(tmp_path):
    """The child blocks at once; the parent is killed."""
    program = """
    import os, signal, sys
    from apid.posix import processes
    def child():
        print(os.getpid(), flush=True)
        os.open(sys.argv[1], os.O_RDONLY)
    os.mkfifo(sys.argv[1])
    processes.fork(child)
    signal.pause()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "fifo")], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        # it is ours now (this process is a subreaper); an open that nobody ever answers would last for good
        wait_until(lambda: not processes.alive(child), "the child is gone", 5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
