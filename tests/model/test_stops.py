"""How the daemon ends: what waits in the accept queues is answered where that is possible, and what is lost is told."""

from __future__ import annotations

import signal

import pytest

from apid import channel
from apid.errors import ExitCode
from apid.parent import events
from apid.parent.phases import Command, Phase
from tests.model.kernel import Kernel
from tests.model.steps import boot, drained, running


@pytest.fixture
def kernel():
    return running(Kernel(2))


def quiesced(kernel):
    kernel.ask(Command.QUIESCE)
    kernel.turn()
    drained(kernel)
    assert not kernel.workers()
    return kernel


def test_a_stop_after_a_quiesce_answers_what_is_queued(kernel):
    quiesced(kernel).queue = 5
    kernel.ask(Command.STOP, 1)
    kernel.turn()
    assert kernel.listening
    assert len(kernel.workers(ready=False)) == 2
    boot(kernel)
    assert not kernel.listening
    drained(kernel)
    assert kernel.code == ExitCode.OK
    assert kernel.replies[1][0].ok


def test_a_stop_after_a_quiesce_with_nothing_queued_is_done_at_once(kernel):
    quiesced(kernel)
    kernel.ask(Command.STOP)
    kernel.turn()
    assert kernel.code == ExitCode.OK


@pytest.mark.parametrize("way", ["boot", "fork", "time", "again"])
def test_what_is_queued_is_lost_with_an_exit_code_when_no_worker_can_be_raised(kernel, way):
    quiesced(kernel).queue = 5
    kernel.forks_that_fail = way == "fork"
    kernel.ask(Command.STOP, 1)
    kernel.turn()
    if way == "boot":
        kernel.end(kernel.workers()[0], 2)
    if way == "time":
        kernel.now = kernel.plan.deadline(kernel.now)
    if way == "again":
        kernel.ask(Command.STOP)
    for _ in range(3):
        kernel.turn()
    assert kernel.code == ExitCode.CUT
    assert "requests lost: 5" in kernel.replies[1][0].text


@pytest.mark.parametrize("when", ["booting", "dead"])
def test_a_stop_without_a_ready_worker_answers_what_is_queued(when):
    """While the first generation boots, and in the pause of a crash loop."""
    kernel = Kernel(1)
    if when == "dead":
        running(kernel)
        for _ in range(2):
            kernel.end(kernel.workers()[0], 1)
            kernel.turn()
        assert not kernel.workers()
    kernel.queue = 1
    kernel.ask(Command.STOP)
    kernel.turn()
    boot(kernel)
    drained(kernel)
    assert kernel.code == ExitCode.OK


@pytest.mark.parametrize("commands", [[Command.HALT], [Command.STOP, Command.STOP]])
@pytest.mark.parametrize("stuck", [False, True])
def test_a_stop_now_that_loses_requests_says_so(kernel, commands, stuck):
    """Also where the worker cannot say it any more."""
    one = kernel.workers()[0]
    one.flights, one.stuck = 2, stuck
    for command in commands:
        kernel.ask(command)
        kernel.turn()
    kernel.tick(1.5)
    for _ in range(3):
        kernel.turn()
    assert kernel.code == ExitCode.CUT
    assert kernel.state.cut == 2


def test_a_worker_that_crashes_in_a_stop_has_lost_its_requests(kernel):
    kernel.workers()[0].flights = 3
    kernel.ask(Command.STOP)
    kernel.turn()
    kernel.end(kernel.workers()[0], -signal.SIGSEGV)
    done = kernel.turn()
    assert [len(one.lost) for one in done if isinstance(one, events.Retire)] == [3]
    drained(kernel)
    assert kernel.code == ExitCode.CUT


@pytest.mark.parametrize("command", [Command.STOP, Command.HALT])
def test_a_stop_whose_sockets_cannot_be_closed_ends_all_the_same(kernel, command):
    quiesced(kernel).unlisten_fails = True
    kernel.ask(command)
    kernel.turn()
    kernel.check_asleep()
    assert kernel.code == ExitCode.OK


def test_a_worker_that_dies_in_the_drain_delay_is_replaced():
    kernel = running(Kernel(1, drain_delay=30))
    kernel.ask(Command.STOP)
    kernel.turn()
    kernel.end(kernel.workers()[0], 1)
    kernel.turn()
    boot(kernel)
    assert len(kernel.workers(ready=True)) == 1
    assert kernel.state.phase is Phase.LEAVING
    kernel.tick(30)
    drained(kernel)
    assert kernel.code == ExitCode.OK


def test_those_who_wait_at_a_start_that_fails_are_told_why():
    kernel = Kernel(1)
    kernel.ask(Command.SCALE, 1, 3)
    kernel.turn()
    one = kernel.workers()[0]
    kernel.say(one.pid, channel.BootFailed("config", "no such factory"))
    kernel.end(one, 2)
    kernel.turn()
    assert kernel.replies[1][0].text == "no such factory"
