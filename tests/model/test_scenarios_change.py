"""Encounters in a reload, an upgrade or a recycling that random events reach seldom, each written down once."""

from __future__ import annotations

import signal

import pytest

from apid import channel
from apid.parent import change_steps, events
from apid.parent.phases import Command, Phase
from tests.model.kernel import TRIAL, Kernel
from tests.model.steps import boot, drained, pass_trial, reload, running, seats


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
