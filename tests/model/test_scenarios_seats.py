"""Encounters of scaling with drains and changes: which seats are filled, and who leaves."""

from __future__ import annotations

import signal

import pytest

from apid.parent.phases import Command, Phase
from tests.model.kernel import Kernel
from tests.model.steps import boot, drained, pass_trial, ready_first, running, serving


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
