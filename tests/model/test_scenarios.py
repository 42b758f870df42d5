"""Encounters that random events reach seldom, each written down once; the kernel's invariants hold here as well."""

from __future__ import annotations

import signal

import pytest

from apid import channel
from apid.conf.settings import Daemon
from apid.errors import ExitCode
from apid.parent import change_steps, events
from apid.parent.lifecycle import Stage
from apid.parent.phases import Command, Phase
from tests.model.kernel import TRIAL, Kernel


@pytest.fixture
def kernel():
    return running(Kernel(2))


def running(kernel):
    boot(kernel)
    assert kernel.state.phase is Phase.RUNNING
    return kernel


def boot(kernel):
    """All workers that boot become ready."""
    for process in kernel.workers(ready=False):
        process.ready = True
        kernel.say(process.pid, channel.Ready())
    return watched(kernel)


def watched(kernel):
    """A new generation whose seats are all ready is watched for its moment."""
    done = kernel.turn()
    proven = change_steps.proven_at(kernel.state)
    return done if proven is None else done + kernel.tick(proven - kernel.now)


def pass_trial(kernel):
    (trial,) = [one for one in kernel.processes.values() if one.kind == TRIAL and one.ended is None]
    kernel.say(trial.pid, channel.Ready())
    kernel.end(trial, 0)
    return kernel.turn()


def drained(kernel):
    """All that were told to drain leave."""
    for process in kernel.workers(draining=True):
        kernel.say(process.pid, channel.DrainDone())
        kernel.end(process, 0)
    return kernel.turn()


def seats(kernel):
    return sorted((child.slot, child.generation, child.stage) for child in kernel.state.children if child.serving)


def reload(kernel, who=None):
    kernel.ask(Command.RELOAD, who)
    kernel.turn()
    pass_trial(kernel)
    boot(kernel)
    drained(kernel)


def test_a_reload_has_its_steps_in_order_and_its_verdict(kernel):
    kernel.ask(Command.RELOAD, 1)
    done = kernel.turn()
    assert [type(one) for one in done if not isinstance(one, events.Say)] == [
        events.Announce,
        events.Prepare,
        events.Try,
    ]
    assert [type(one) for one in pass_trial(kernel)] == [events.Say, events.Spawn, events.Spawn]
    assert not kernel.workers(draining=True)
    assert not kernel.replies
    first, second = kernel.workers(ready=False)
    first.ready = True
    kernel.say(first.pid, channel.Ready())
    assert not any(isinstance(one, events.Commit | events.DrainWorker) for one in kernel.turn())
    second.ready = True
    kernel.say(second.pid, channel.Ready())
    assert not any(isinstance(one, events.Commit | events.DrainWorker) for one in kernel.turn())
    assert kernel.plan.deadline(kernel.now) == kernel.now + change_steps.WATCH
    kinds = [type(one) for one in kernel.tick(change_steps.WATCH) if not isinstance(one, events.Say)]
    assert kinds == [events.Commit, events.Leave, events.DrainWorker, events.DrainWorker, events.Announce]
    old = kernel.workers(draining=True)
    kernel.say(old[0].pid, channel.Draining())
    kernel.turn()
    assert not kernel.replies, "a client could still meet the other one"
    kernel.say(old[1].pid, channel.Draining())
    kernel.turn()
    assert kernel.replies[1][0].ok
    assert kernel.state.generation == 2


def test_what_a_commit_could_not_do_is_in_its_verdict(kernel):
    """There is no way back from a commit: the new generation serves, the old one drains, and the verdict names what failed."""
    kernel.commit_fails = True
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    pass_trial(kernel)
    boot(kernel)
    assert kernel.state.generation == 2
    for old in kernel.workers(draining=True):
        kernel.say(old.pid, channel.Draining())
    kernel.turn()
    (verdict,) = kernel.replies[1]
    assert not verdict.ok
    assert "generation 2 is ready" in verdict.text
    assert "the pid file is lost" in verdict.text
    assert kernel.state.changes == {"reload failed": 1}


def test_an_old_worker_that_hangs_does_not_hold_the_verdict_for_ever(kernel):
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    pass_trial(kernel)
    boot(kernel)
    assert not kernel.replies
    kernel.now = kernel.plan.deadline(kernel.now)
    kernel.turn()
    assert kernel.replies[1][0].ok


@pytest.mark.parametrize("step", ["prepare", "fork", "trial", "spawn", "boot", "late"])
def test_a_change_that_fails_leaves_the_old_generation_alone(kernel, step):
    before = seats(kernel)
    kernel.prepare_fails, kernel.try_fails = step == "prepare", step == "fork"
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    if step == "trial":
        (trial,) = [one for one in kernel.processes.values() if one.kind == TRIAL]
        kernel.say(trial.pid, channel.BootFailed("config", "no such factory", "Traceback: here"))
        kernel.end(trial, 2)
        kernel.turn()
    if step in ("spawn", "boot", "late"):
        kernel.forks_that_fail = step == "spawn"
        pass_trial(kernel)
    if step == "boot":
        kernel.end(kernel.workers(generation=2)[0], -signal.SIGSEGV)
        kernel.turn()
    if step == "late":
        kernel.tick(61)
    (reply,) = kernel.replies[1]
    assert not reply.ok
    assert "goes on" in reply.text
    kernel.turn()
    assert seats(kernel) == before
    assert not kernel.workers(draining=True, generation=1)
    assert kernel.state.verdict.ok is False
    assert kernel.state.phase is Phase.RUNNING
    kernel.prepare_fails = kernel.try_fails = False
    reload(kernel)
    assert kernel.state.generation == 2


def test_a_new_generation_whose_workers_keep_dying_is_given_up(kernel):
    before = seats(kernel)
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    pass_trial(kernel)
    for _ in range(3):
        assert 1 not in kernel.replies
        one = kernel.workers(generation=2)[0]
        one.ready = True
        kernel.say(one.pid, channel.Ready())
        kernel.turn()
        kernel.end(one, -signal.SIGSEGV)
        kernel.turn()
    assert "crash:SIGSEGV" in kernel.replies[1][0].text
    kernel.turn()
    assert seats(kernel) == before


def test_a_storm_is_one_running_and_one_waiting(kernel):
    for who in range(1, 101):
        kernel.ask(Command.RELOAD, who)
    kernel.turn()
    for _ in range(2):
        pass_trial(kernel)
        boot(kernel)
        drained(kernel)
    assert len(kernel.began) == 2
    assert kernel.state.generation == 3
    assert all(kernel.replies[who][0].ok for who in range(1, 101))


def test_a_recycling_under_way_does_not_starve_a_reload():
    """Its successor takes a place that the new generation needs: it is finished, not forgotten."""
    kernel = running(Kernel(2))
    first = kernel.workers()[0]
    kernel.say(first.pid, channel.RecycleAsked("recycle"))
    kernel.turn()
    assert len(kernel.workers()) == 3
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    pass_trial(kernel)
    assert len(kernel.workers()) == 4
    boot(kernel)
    assert first.draining
    drained(kernel)
    boot(kernel)
    drained(kernel)
    assert kernel.replies[1][0].ok
    assert kernel.state.generation == 2


def test_recycling_is_one_at_a_time_and_the_successor_comes_first():
    kernel = running(Kernel(3))
    for process in kernel.workers():
        kernel.say(process.pid, channel.RecycleAsked("rss"))
    kernel.turn()
    for _ in range(3):
        (heir,) = kernel.workers(ready=False)
        assert not kernel.workers(draining=True)
        assert len(kernel.workers(ready=True)) == 3
        heir.ready = True
        kernel.say(heir.pid, channel.Ready())
        kernel.turn()
        assert len(kernel.workers(draining=True)) == 1
        drained(kernel)
    assert kernel.state.ends == {"rss": 3}


def test_a_recycling_whose_successor_cannot_boot_goes_on_by_itself(kernel):
    """The old worker goes on, and nothing but the clock is needed for the next try."""
    old = kernel.workers()[0]
    kernel.say(old.pid, channel.RecycleAsked("recycle"))
    kernel.turn()
    for _ in range(2):
        (heir,) = kernel.workers(ready=False)
        kernel.end(heir, 1)
        kernel.turn()
    due = kernel.plan.deadline(kernel.now)
    assert due is not None
    kernel.now = due
    kernel.turn()
    boot(kernel)
    assert old.draining


def test_what_is_asked_over_an_upgrade_is_answered_by_the_new_image(kernel):
    kernel.ask(Command.UPGRADE, 1)
    kernel.turn()
    kernel.ask(Command.RELOAD, 2)
    kernel.ask(Command.SCALE, 3, 4)
    kernel.ask(Command.DUMP, 4)
    kernel.turn()
    pass_trial(kernel)
    assert kernel.images == 2
    for process in kernel.workers(ready=True):
        kernel.say(process.pid, channel.Dumped())
    boot(kernel)
    drained(kernel)
    pass_trial(kernel)
    boot(kernel)
    drained(kernel)
    assert {who: replies[0].ok for who, replies in kernel.replies.items()} == {1: True, 2: True, 3: True, 4: True}
    assert [child.slot for child in kernel.state.children] == [0, 1, 2, 3]


def test_a_recycling_goes_on_over_an_upgrade_that_fails(kernel):
    kernel.say(kernel.workers()[0].pid, channel.RecycleAsked("recycle"))
    kernel.turn()
    kernel.ask(Command.UPGRADE, 1)
    kernel.turn()
    kernel.prepare_fails = True
    pass_trial(kernel)
    assert kernel.images == 2
    assert not kernel.replies[1][0].ok
    boot(kernel)
    drained(kernel)
    assert len(kernel.workers()) == 2
    assert kernel.state.ends == {"recycle": 1}


def test_what_was_told_during_a_reload_outlives_it(kernel):
    """TTIN was told after HUP, so it counts from the number that HUP reads; TTIN before HUP is overruled."""
    kernel.ask(Command.GROW)
    kernel.turn()
    boot(kernel)
    assert kernel.state.wanted == 3
    kernel.ask(Command.RELOAD)
    kernel.turn()
    kernel.ask(Command.GROW)
    kernel.ask(Command.GROW)
    kernel.turn()
    pass_trial(kernel)
    kernel.ask(Command.SHRINK)
    kernel.turn()
    boot(kernel)
    assert kernel.state.wanted == 3  # 2 as configured, + 1 + 1 - 1
    drained(kernel)
    reload(kernel)
    assert kernel.state.wanted == 2


def test_a_scale_down_that_drains_does_not_keep_seats_empty():
    kernel = running(Kernel(8))
    kernel.ask(Command.SCALE, 1, 2)
    kernel.turn()
    assert len(kernel.workers(draining=True)) == 6
    one = kernel.workers(draining=False)[0]
    kernel.end(one, -signal.SIGKILL)
    kernel.turn()
    assert len(kernel.workers(draining=False)) == 2
    kernel.check_asleep()


def ready_first(kernel, *slots):
    """Make the booting workers of these slots ready."""
    for process in [p for p in kernel.workers(ready=False) if p.slot in slots]:
        process.ready = True
        kernel.say(process.pid, channel.Ready())
    return watched(kernel)


def serving(kernel):
    return {(child.slot, child.generation) for child in kernel.state.children if kernel.serves(child)}


@pytest.mark.parametrize("old_generation", ["serves", "is dead"])
def test_a_scale_down_during_a_reload_waits_for_the_seats_that_stay(old_generation):
    """The highest seats become ready first. They do not complete the generation, and they drain only when others are ready."""
    kernel = running(Kernel(4))
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    pass_trial(kernel)
    ready_first(kernel, 2, 3)
    if old_generation == "is dead":
        for process in kernel.workers(generation=1):
            kernel.end(process, -signal.SIGSEGV)
        kernel.turn()
    kernel.ask(Command.SCALE, 2, 2)
    kernel.turn()
    assert serving(kernel)
    assert kernel.state.generation == 1
    assert not kernel.replies
    for slot in (1, 0):
        ready_first(kernel, slot)
        assert serving(kernel)
    assert kernel.state.generation == 2
    assert serving(kernel) == {(0, 2), (1, 2)}
    drained(kernel)
    assert kernel.replies[1][0].ok
    assert kernel.replies[2][0].ok


@pytest.mark.parametrize("when", ["at the start", "after two deaths"])
def test_a_scale_down_keeps_those_who_serve_while_the_seats_that_stay_boot(when):
    kernel = Kernel(4)
    if when == "after two deaths":
        running(kernel)
        for process in [p for p in kernel.workers() if p.slot < 2]:
            kernel.end(process, -signal.SIGKILL)
        kernel.turn()
    else:
        ready_first(kernel, 2, 3)
    kernel.ask(Command.SCALE, 1, 2)
    kernel.turn()
    assert serving(kernel) == {(2, 1), (3, 1)}
    assert not kernel.replies
    ready_first(kernel, 0)
    assert serving(kernel) == {(0, 1), (2, 1)}
    ready_first(kernel, 1)
    assert serving(kernel) == {(0, 1), (1, 1)}
    assert kernel.replies[1][0].ok
    assert kernel.state.phase is Phase.RUNNING


def test_those_who_stay_in_a_new_generation_do_not_keep_its_seats_empty():
    """The surplus worker of the new generation, which serves on, does not block the fork for the missing seat."""
    kernel = running(Kernel(3))
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    pass_trial(kernel)
    ready_first(kernel, 1, 2)
    kernel.ask(Command.SCALE, 2, 2)
    kernel.turn()
    drained(kernel)
    kernel.end(next(p for p in kernel.workers(generation=2) if p.slot == 1), -signal.SIGSEGV)
    kernel.turn()
    ready_first(kernel, 0)
    boot(kernel)
    assert serving(kernel) == {(0, 2), (1, 2)}
    drained(kernel)
    assert kernel.replies[2][0].ok


def test_those_who_stay_for_the_time_being_do_not_keep_the_seats_empty():
    """With one worker wanted and three surplus workers, there is room to fork the wanted one."""
    kernel = running(Kernel(4))
    first = next(p for p in kernel.workers() if p.slot == 0)
    kernel.ask(Command.SCALE, 1, 1)
    kernel.end(first, -signal.SIGKILL)
    kernel.turn()
    (successor,) = kernel.workers(ready=False)
    assert successor.slot == 0
    assert len(serving(kernel)) == 1
    boot(kernel)
    assert serving(kernel) == {(0, 1)}


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
    kernel.daemon = Daemon(workers=2, startup_timeout=7)
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    pass_trial(kernel)
    kernel.tick(7)
    assert "not ready within 7 s (startup_timeout)" in kernel.replies[1][0].text


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
