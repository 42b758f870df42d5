"""What is said of a change, of the number of workers and of the logs is true, in the corners too."""

from __future__ import annotations

import signal

import pytest

from apid import channel
from apid.conf.settings import Daemon
from apid.errors import ExitCode
from apid.parent import change_steps, events
from apid.parent.backoff import STABLE
from apid.parent.ending import TRIES_AT_START
from apid.parent.phases import Command, Phase
from tests.model.kernel import MOLD, TRIAL, Kernel
from tests.model.steps import boot, drained, pass_trial, reload, running, seats, watched


@pytest.fixture
def kernel():
    return running(Kernel(2))


def raised(kernel, who=None):
    """A reload whose workers boot."""
    kernel.ask(Command.RELOAD, who)
    kernel.turn()
    pass_trial(kernel)
    return kernel


def said(kernel, who):
    (reply,) = kernel.replies[who]
    return reply.ok, reply.text


# ---- a reload while the daemon starts ----


@pytest.mark.parametrize("how", ["hangs", "fails"])
def test_a_reload_mends_a_start_at_once(how):
    kernel = Kernel(2)
    if how == "fails":
        for _ in range(2):
            kernel.end(kernel.workers()[0], 1)
            kernel.turn()
    first = kernel.workers()
    raised(kernel, 1)
    for process in kernel.workers(generation=2):
        process.ready = True
        kernel.say(process.pid, channel.Ready())
    done = watched(kernel)
    assert kernel.state.phase is Phase.RUNNING
    assert said(kernel, 1)[0]
    assert all(process.ended for process in first)
    assert [one.what for one in done if isinstance(one, events.Announce)] == ["ready"]


def test_a_start_is_not_given_up_while_a_reload_may_mend_it():
    kernel = Kernel(1, startup_timeout=20)
    raised(kernel, 1)
    for _ in range(4):
        for process in kernel.workers(generation=1):
            kernel.say(process.pid, channel.BootFailed("config", "no such factory"))
            kernel.end(process, 2)
        kernel.tick(4)
        assert kernel.code is None
    assert kernel.state.boot_deaths >= TRIES_AT_START
    (new,) = kernel.workers(generation=2)
    new.ready = True
    kernel.say(new.pid, channel.Ready())
    watched(kernel)
    assert kernel.state.phase is Phase.RUNNING
    assert said(kernel, 1)[0]


def test_a_reload_that_fails_leaves_a_start_where_it_was():
    kernel = Kernel(1)
    kernel.prepare_fails = True
    kernel.ask(Command.RELOAD, 1)
    done = kernel.turn()
    assert said(kernel, 1) == (False, "reload failed, generation 1 goes on booting: the configuration is wrong")
    assert not [one for one in done if isinstance(one, events.Announce)], "READY=1 would be a lie"
    for _ in range(3):
        while not kernel.workers():
            kernel.now = kernel.plan.deadline(kernel.now)
            kernel.turn()
        kernel.end(kernel.workers()[0], 1)
        kernel.turn()
    assert kernel.code == ExitCode.NO_WORKER


def test_a_start_whose_workers_come_and_go_is_not_called_ready():
    kernel = Kernel(1, startup_timeout=20)
    one = kernel.workers()[0]
    one.ready = True
    kernel.plan.state.wanted = 2
    kernel.say(one.pid, channel.Ready())
    kernel.turn()
    for process in kernel.workers():
        kernel.end(process, 1)
    kernel.turn()
    kernel.now += 20
    done = kernel.turn()
    kernel.check_asleep()
    assert not [one for one in done if isinstance(one, events.Announce)]
    assert kernel.state.phase is Phase.STARTING


# ---- numbers of generations ----


def test_a_failed_change_leaves_its_number_and_nobody_who_confuses_the_next(kernel):
    """Its workers drain, hang and die while the next one of the same number is raised."""
    kernel.daemon = Daemon(workers=3, preload="off")
    raised(kernel, 1)
    left = kernel.workers(generation=2)
    for process in left[:2]:
        process.ready = True
        kernel.say(process.pid, channel.Ready())
    kernel.inbox.append(events.Silent(left[1].pid, 31.0, True))
    kernel.turn()
    kernel.end(left[2], 1)
    kernel.turn()
    assert not said(kernel, 1)[0]
    raised(kernel, 2)
    assert kernel.state.change.generation == 2
    kernel.say(left[0].pid, channel.RecycleAsked("rss"))
    kernel.end(left[0], -signal.SIGSEGV)
    kernel.tick(0.5)
    kernel.turn()
    assert left[1].ended
    assert kernel.state.change.deaths == 0
    boot(kernel)
    boot(kernel)
    drained(kernel)
    assert said(kernel, 2)[0]
    assert [(slot, generation) for slot, generation, _ in seats(kernel)] == [(0, 2), (1, 2), (2, 2)]


# ---- the watch over a new generation ----


def test_a_worker_that_dies_in_the_watch_is_replaced_before_the_commit(kernel):
    raised(kernel, 1)
    for process in kernel.workers(ready=False):
        process.ready = True
        kernel.say(process.pid, channel.Ready())
    kernel.turn()
    kernel.tick(change_steps.WATCH / 2)
    kernel.end(kernel.workers(generation=2)[0], 1)
    kernel.turn()
    kernel.tick(change_steps.WATCH)
    assert kernel.state.generation == 1
    boot(kernel)
    assert kernel.state.generation == 2


def test_an_application_that_dies_soon_after_ready_fails_the_reload(kernel):
    before = seats(kernel)
    raised(kernel, 1)
    for _ in range(change_steps.MOST_DEATHS):
        for process in kernel.workers(generation=2, ready=False):
            process.ready = True
            kernel.say(process.pid, channel.Ready())
        kernel.turn()
        kernel.tick(change_steps.WATCH / 2)
        kernel.end(kernel.workers(generation=2)[0], 0)
        kernel.turn()
    assert not said(kernel, 1)[0]
    drained(kernel)
    assert seats(kernel) == before


@pytest.mark.parametrize(("after", "deaths"), [(2.0, 2), (STABLE, 0)])
def test_deaths_soon_after_a_change_stand_in_its_record(kernel, after, deaths):
    """Also where another change has failed meanwhile."""
    reload(kernel)
    kernel.try_fails = True
    kernel.ask(Command.RELOAD)
    kernel.turn()
    kernel.now += after
    for process in kernel.workers(generation=2):
        kernel.end(process, 0)
    done = kernel.turn()
    assert [verdict.deaths for verdict in kernel.state.history] == [deaths, 0]
    lines = [one.text for one in done if isinstance(one, events.Say) and "a worker ended 2.0 s after it" in one.text]
    assert len(lines) == bool(deaths)


@pytest.mark.parametrize(
    ("phase", "text"), [("quiesced", "generation 1 stays quiesced"), ("stop", "nothing has changed")]
)
def test_a_change_that_fails_says_what_goes_on(kernel, phase, text):
    if phase == "quiesced":
        kernel.ask(Command.QUIESCE)
        kernel.turn()
        drained(kernel)
        kernel.prepare_fails = True
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    if phase == "stop":
        kernel.ask(Command.STOP)
        kernel.turn()
    assert text in said(kernel, 1)[1]


def test_a_verdict_that_did_not_wait_for_an_old_worker_says_so(kernel):
    raised(kernel, 1)
    boot(kernel)
    kernel.now = kernel.plan.deadline(kernel.now)
    kernel.turn()
    ok, text = said(kernel, 1)
    assert ok
    assert "2 of the old workers have not said that they accept no more" in text


# ---- the number of workers ----


def test_a_scale_whose_worker_does_not_boot_fails_at_once_and_says_what_goes_on(kernel):
    kernel.ask(Command.SCALE, 1, 3)
    kernel.turn()
    (new,) = kernel.workers(ready=False)
    kernel.say(new.pid, channel.BootFailed("config", "no such factory"))
    kernel.end(new, 2)
    kernel.turn()
    assert said(kernel, 1) == (
        False,
        "2 of 3 workers are ready: worker 2 failed (no such factory); 3 remain wanted, and worker 2 is tried again at once",
    )
    boot(kernel)
    assert len(seats(kernel)) == 3


def test_a_scale_that_cannot_fork_fails_at_once(kernel):
    kernel.forks_that_fail = 1
    kernel.ask(Command.SCALE, 1, 3)
    kernel.turn()
    ok, text = said(kernel, 1)
    assert not ok
    assert "worker 2 failed (cannot fork: Resource temporarily unavailable)" in text


def test_a_scale_in_a_crash_loop_does_not_wait_for_the_pause(kernel):
    """The workers do boot, and die."""
    for _ in range(4):
        while not (found := [p for p in kernel.workers() if p.slot == 0]):
            kernel.now = kernel.plan.deadline(kernel.now)
            kernel.turn()
        boot(kernel)
        kernel.end(found[0], 1)
        kernel.turn()
    kernel.ask(Command.SCALE, 1, 3)
    kernel.turn()
    ok, text = said(kernel, 1)
    assert not ok
    assert "worker 0 failed (exit:1)" in text
    assert "is tried again in 4 s" in text


def test_of_two_scales_the_first_is_told_that_it_is_overruled(kernel):
    kernel.ask(Command.SCALE, 1, 3)
    kernel.ask(Command.GROW, 2)
    kernel.turn()
    assert said(kernel, 1) == (False, "overruled: 4 workers are wanted now")
    kernel.ask(Command.SCALE, 3, 5)
    kernel.turn()
    boot(kernel)
    assert said(kernel, 2) == (True, "5 workers are ready")
    assert said(kernel, 3) == (True, "5 workers are ready")


def test_a_scale_that_a_reload_overrules_is_told_so(kernel):
    kernel.ask(Command.SCALE, 1, 4)
    kernel.ask(Command.RELOAD, 2)
    kernel.turn()
    pass_trial(kernel)
    boot(kernel)
    drained(kernel)
    boot(kernel)
    assert said(kernel, 1) == (False, "overruled by a reload: 2 workers are wanted now, and ready")


def test_a_mold_that_ends_in_the_turn_in_which_it_is_asked_fails_the_change_with_how_it_ended():
    kernel = Kernel(2, preload="on")
    (mold,) = [one for one in kernel.processes.values() if one.kind == MOLD]
    kernel.load(mold)
    kernel.turn()
    while kernel.unborn:
        kernel.bear(kernel.unborn[0])
        kernel.turn()
    for worker in kernel.workers():
        kernel.say(worker.pid, channel.Ready())
        worker.ready = True
    kernel.turn()
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    (new,) = [one for one in kernel.processes.values() if one.kind == MOLD and one is not mold]
    kernel.load(new)
    kernel.end(new, -signal.SIGKILL)
    done = kernel.turn()
    assert [one.text for one in done if isinstance(one, events.Say) and "cannot fork" in one.text] == []
    ok, text = said(kernel, 1)
    assert not ok
    assert "its mold ended with signal 9" in text


def test_a_generation_that_has_a_worker_of_a_mold_gets_none_that_loads_by_itself():
    """Not even while it starts: a second mold cannot be forked, and what it loaded may be other code."""
    kernel = Kernel(2, preload="auto")
    (mold,) = [one for one in kernel.processes.values() if one.kind == MOLD]
    kernel.load(mold)
    kernel.turn()
    kernel.bear(kernel.unborn[0])
    kernel.turn()
    (first,) = kernel.workers()
    for order in list(kernel.unborn):
        kernel.miscarry(order)
    kernel.end(mold, -signal.SIGKILL)
    kernel.turn()
    kernel.now += 31
    kernel.turn()
    (second,) = [one for one in kernel.processes.values() if one.kind == MOLD and one.ended is None]
    kernel.load(second, stays=False)
    kernel.turn()
    kernel.turn()
    assert kernel.state.alone == set()
    assert "cannot be forked" in kernel.state.outdated
    assert kernel.workers() == [first]


# ---- reopen, quiesce ----


def test_who_boots_while_the_logs_are_reopened_is_asked_too_and_named(kernel):
    kernel.end(kernel.workers()[1], 1)
    kernel.turn()
    (late,) = kernel.workers(ready=False)
    kernel.ask(Command.REOPEN, 1)
    done = kernel.turn()
    assert late.pid in [one.pid for one in done if isinstance(one, events.Tell)]
    kernel.say(kernel.workers(ready=True)[0].pid, channel.Reopened())
    kernel.turn()
    assert said(kernel, 1) == (True, "reopen: done; worker 1 still boots and reopens its logs when it is ready")


@pytest.mark.parametrize(("pause", "asked"), [(0.01, True), (1.0, False)])
def test_who_was_ordered_before_the_logs_were_reopened_and_is_born_after_is_asked_too(pause, asked):
    kernel = Kernel(1, preload="on")
    (mold,) = [one for one in kernel.processes.values() if one.kind == MOLD]
    kernel.load(mold)
    kernel.turn()
    kernel.ask(Command.REOPEN, 1)
    kernel.turn()
    kernel.now += pause  # the kernel here takes 0.02 s from the order to the birth
    kernel.bear(kernel.unborn[0])
    done = kernel.turn()
    (late,) = kernel.workers()
    told = [one.message for one in done if isinstance(one, events.Tell) and one.pid == late.pid]
    assert told == [channel.Reopen()] * asked


def test_who_dies_without_an_answer_holds_up_nobody(kernel):
    kernel.ask(Command.REOPEN, 1)
    kernel.turn()
    first, second = kernel.workers()
    kernel.say(first.pid, channel.Reopened())
    kernel.end(second, -signal.SIGKILL)
    kernel.turn()
    assert said(kernel, 1) == (True, "reopen: done")


def test_the_verdict_of_a_quiesce_waits_until_nobody_accepts(kernel):
    kernel.ask(Command.QUIESCE, 1)
    kernel.turn()
    assert 1 not in kernel.replies
    for process in kernel.workers(draining=True):
        kernel.say(process.pid, channel.Draining())
    kernel.turn()
    assert said(kernel, 1)[0]


@pytest.mark.parametrize(("code", "end"), [(9, "exit code 9"), (-11, "signal 11")])
def test_a_trial_that_loaded_the_application_has_passed_however_its_process_ends(code, end):
    kernel = running(Kernel(2))
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    (trial,) = [one for one in kernel.processes.values() if one.kind == TRIAL]
    kernel.say(trial.pid, channel.Ready())
    kernel.end(trial, code)
    said = [one.text for one in kernel.turn() if isinstance(one, events.Say)]
    assert f"reload: the trial loaded the application, and then ended with {end}" in said
    boot(kernel)
    drained(kernel)
    assert kernel.replies[1][0].ok
    assert kernel.state.generation == 2
