"""Starts that fail, stops, deadlines, crash loops and hangs, each written down once."""

from __future__ import annotations

import signal

import pytest

from apid import channel
from apid.conf.settings import Daemon
from apid.errors import ExitCode
from apid.parent import events
from apid.parent.lifecycle import Stage
from apid.parent.phases import Command
from tests.model.kernel import Kernel
from tests.model.steps import boot, drained, pass_trial, reload, running, seats


def test_a_crash_loop_backs_off_and_is_forgiven(kernel):
    pauses = []
    for _ in range(9):
        (process,) = [p for p in kernel.workers() if p.slot == 0]
        kernel.end(process, 1)
        kernel.turn()
        before = kernel.now
        while not [p for p in kernel.workers() if p.slot == 0]:
            kernel.now = kernel.plan.deadline(kernel.now)
            kernel.turn()
        pauses.append(kernel.now - before)
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30, 30]
    assert kernel.state.degraded(kernel.now)
    boot(kernel)
    assert kernel.plan.deadline(kernel.now) <= kernel.now + 1.0
    kernel.tick(1.0)
    assert not kernel.state.degraded(kernel.now)


def test_a_start_whose_configuration_is_wrong_ends_at_once():
    kernel = Kernel(4)
    one = kernel.workers()[0]
    kernel.say(one.pid, channel.BootFailed("config", "no such factory"))
    kernel.end(one, 2)
    kernel.turn()
    kernel.turn()
    assert kernel.code == ExitCode.CONFIG


def test_a_start_in_which_nobody_gets_ready_ends_with_its_code():
    kernel = Kernel(1)
    for _ in range(3):
        while not kernel.workers():
            kernel.now = kernel.plan.deadline(kernel.now)
            kernel.turn()
        kernel.end(kernel.workers()[0], -signal.SIGSEGV)
        kernel.turn()
    assert kernel.code == ExitCode.NO_WORKER


def test_a_new_generation_is_given_its_own_startup_timeout(kernel):
    kernel.daemon = Daemon(workers=2, startup_timeout=7, preload="off")
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    pass_trial(kernel)
    kernel.tick(7)
    assert "not ready within 7 s (startup_timeout)" in kernel.replies[1][0].text


def test_a_worker_whose_end_is_never_reported_is_given_up():
    kernel = running(Kernel(1, graceful_shutdown_timeout=1))
    (one,) = kernel.workers()
    kernel.kill = lambda action: None  # another process traces it, and does not wait for it
    kernel.ask(Command.STOP)
    kernel.turn()
    kernel.tick(4.1)
    assert [child.stage for child in kernel.state.children] == [Stage.KILLED]
    kernel.tick(9.9)
    assert kernel.code is None
    kernel.gone.add(kernel.processes.pop(one.pid).pid)
    kernel.tick(kernel.plan.deadline(kernel.now) - kernel.now)
    assert kernel.code == ExitCode.CUT


def test_startup_timeout_0_waits_for_ever():
    kernel = Kernel(1, startup_timeout=0)
    kernel.tick(10_000)
    assert kernel.code is None
    assert len(kernel.workers()) == 1
    running(kernel)


def test_graceful_shutdown_timeout_0_never_cuts():
    kernel = running(Kernel(1, graceful_shutdown_timeout=0))
    kernel.ask(Command.STOP)
    kernel.turn()
    kernel.tick(10_000)
    assert len(kernel.workers()) == 1
    drained(kernel)
    assert kernel.code == 0


def test_what_a_reload_cut_is_not_the_stops_fault(kernel):
    reload_of_two = kernel.workers()
    kernel.ask(Command.RELOAD)
    kernel.turn()
    pass_trial(kernel)
    boot(kernel)
    for process in reload_of_two:
        kernel.say(process.pid, channel.DrainDone(["GET / 60 s"]))
        kernel.end(process, 0)
    kernel.ask(Command.STOP)
    kernel.turn()
    drained(kernel)
    assert kernel.code == ExitCode.OK


@pytest.mark.parametrize(("cut", "code"), [([], ExitCode.OK), (["POST /long 60 s"], ExitCode.CUT)])
def test_the_exit_code_says_whether_the_stop_cut_something(kernel, cut, code):
    kernel.ask(Command.STOP)
    kernel.turn()
    for process in kernel.workers():
        kernel.say(process.pid, channel.DrainDone(cut))
        kernel.end(process, 0)
    kernel.turn()
    assert kernel.code == code


def test_a_worker_that_cannot_be_drained_is_killed_past_its_deadline(kernel):
    kernel.ask(Command.STOP)
    kernel.turn()
    kernel.now = kernel.plan.deadline(kernel.now)
    assert 60 <= kernel.now - 1000 <= 64
    kernel.turn()
    kernel.turn()
    assert kernel.code == ExitCode.CUT


def test_a_second_term_is_now(kernel):
    kernel.ask(Command.STOP)
    kernel.turn()
    kernel.ask(Command.STOP)
    kernel.turn()
    kernel.turn()
    assert kernel.code == ExitCode.OK


def test_term_wins_over_a_reload_at_each_of_its_steps():
    for steps in range(4):
        kernel = running(Kernel(2))
        kernel.ask(Command.RELOAD, 1)
        kernel.ask(Command.RELOAD, 2)
        for step in (kernel.turn, lambda k=kernel: pass_trial(k), lambda k=kernel: boot(k))[:steps]:
            step()
        kernel.ask(Command.STOP, 3)
        kernel.turn()
        for _ in range(5):
            drained(kernel)
        assert kernel.code == 0, steps
        assert kernel.replies[3][0].ok
        assert [kernel.replies[who][0].ok for who in (1, 2)] == [steps == 3, False]


def test_a_hung_worker_is_replaced_before_it_is_dead(kernel):
    victim = kernel.workers()[0]
    kernel.inbox.append(events.Silent(victim.pid, 30.2, True))
    done = kernel.turn()
    assert [type(one) for one in done] == [events.Expose, events.Spawn]
    due = kernel.plan.deadline(kernel.now)
    assert due <= kernel.now + 0.5
    kernel.now = due
    kernel.turn()
    assert victim.ended == -signal.SIGKILL
    kernel.turn()
    boot(kernel)
    assert kernel.state.ends == {"hung": 1}
    assert len(kernel.workers(ready=True)) == 2


def test_quiesced_workers_come_back_with_a_reload(kernel):
    kernel.ask(Command.QUIESCE, 1)
    kernel.ask(Command.SCALE, 2, 5)
    kernel.ask(Command.UPGRADE, 3)
    kernel.turn()
    drained(kernel)
    assert not kernel.workers()
    assert [kernel.replies[who][0].ok for who in (1, 2, 3)] == [True, False, False]
    assert kernel.listening
    reload(kernel, 4)
    assert kernel.replies[4][0].ok
    assert seats(kernel) == [(0, 2, Stage.READY), (1, 2, Stage.READY)]


def test_a_fork_in_the_moment_of_a_stop_is_ended_too(kernel):
    """The exit makes the plan fork; the stop stands right behind it in the queue."""
    kernel.end(kernel.workers()[0], 1)
    kernel.ask(Command.STOP)
    kernel.turn()
    for _ in range(3):
        drained(kernel)
    assert kernel.code == 0


@pytest.mark.parametrize("number", [0, -3, 201])
def test_an_impossible_number_of_workers_is_refused(kernel, number):
    kernel.ask(Command.SCALE, 1, number)
    kernel.turn()
    assert not kernel.replies[1][0].ok
    assert kernel.state.wanted == 2


def test_polls_name_those_who_do_not_answer(kernel):
    kernel.ask(Command.REOPEN, 1)
    kernel.turn()
    kernel.say(kernel.workers()[0].pid, channel.Reopened())
    kernel.turn()
    assert 1 not in kernel.replies
    kernel.now = kernel.plan.deadline(kernel.now)
    kernel.turn()
    (reply,) = kernel.replies[1]
    assert not reply.ok
    assert "worker 1 did not answer" in reply.text
