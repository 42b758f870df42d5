"""A worker or a trial that violates the protocol is killed once, and everything else goes on as after a crash."""

from __future__ import annotations

import itertools
import logging

import pytest

from apid import channel
from apid.parent import events
from apid.parent.phases import Command, Phase
from apid.parent.protocol import LEAVES_WITHIN
from tests.model.kernel import TRIAL, Kernel
from tests.model.steps import boot, pass_trial, running, seats

BOOTING_ONLY = [
    channel.RecycleAsked("rss"),
    channel.Draining(),
    channel.DrainDone(),
    channel.Reopened(),
    channel.Dumped(),
]
TWICE = [channel.Ready(), channel.RecycleAsked("rss"), channel.Draining()]


def killed(done):
    return [action.pid for action in done if isinstance(action, events.Kill)]


def errors(done):
    return [action.text for action in done if isinstance(action, events.Say) and action.level == logging.ERROR]


def said(kernel, pid, *messages):
    """What is done when these come in one turn."""
    for message in messages:
        made = events.Violation(pid, "not a message") if message is None else events.Said(pid, message)
        kernel.exits.append(made)
    return kernel.turn()


@pytest.mark.parametrize("message", [*BOOTING_ONLY, None])
def test_before_it_is_ready(message):
    kernel = Kernel(2)
    first = kernel.workers()[0]
    done = said(kernel, first.pid, message, message, channel.Ready())
    assert killed(done) == [first.pid]
    assert len(errors(done)) == 1
    kernel.turn()
    assert kernel.state.ends == {"boot": 1}
    boot(kernel)
    assert kernel.state.phase is Phase.RUNNING


@pytest.mark.parametrize("message", [*TWICE, channel.Reopened(), channel.Dumped(), None])
def test_while_it_serves(message):
    kernel = running(Kernel(2))
    first = kernel.workers()[0]
    allowed = TWICE[1:].count(message)
    done = said(kernel, first.pid, *[message] * (allowed + 1000))
    assert killed(done) == [first.pid]
    assert len(errors(done)) == 1
    kernel.turn()
    assert kernel.state.ends == {"crash:SIGKILL": 1}
    assert kernel.state.backoff(first.slot).failures == 1
    boot(kernel)
    assert seats(kernel) == [(0, 1, "ready"), (1, 1, "ready")]


@pytest.mark.parametrize("command", [Command.REOPEN, Command.DUMP])
def test_an_answer_is_due_as_often_as_it_was_asked_for(command):
    kernel = running(Kernel(1))
    (only,) = kernel.workers()
    answer = channel.Reopened() if command is Command.REOPEN else channel.Dumped()
    for who in (1, 2):
        kernel.ask(command, who)
        kernel.turn()
    assert killed(said(kernel, only.pid, answer, answer)) == []
    assert [kernel.replies[who][0].ok for who in (1, 2)] == [True, True]
    assert killed(said(kernel, only.pid, answer)) == [only.pid]


@pytest.mark.parametrize("message", [channel.DrainDone(["GET / 1 s"]), channel.BootFailed("crash", "it says")])
def test_one_that_says_that_it_leaves_and_stays_is_killed(message):
    kernel = running(Kernel(1, graceful_shutdown_timeout=0))
    (only,) = kernel.workers()
    assert killed(said(kernel, only.pid, message)) == []
    assert killed(kernel.tick(LEAVES_WITHIN - 1)) == []
    assert killed(kernel.tick(2)) == [only.pid]
    kernel.turn()
    boot(kernel)
    assert seats(kernel) == [(0, 1, "ready")]


@pytest.mark.parametrize("message", [channel.Ready(), None])
def test_one_that_drains(message):
    kernel = running(Kernel(1))
    (old,) = kernel.workers()
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    pass_trial(kernel)
    boot(kernel)
    assert old.draining
    assert killed(said(kernel, old.pid, message)) == [old.pid]
    kernel.turn()
    assert kernel.state.ends == {"crash:SIGKILL": 1}
    assert kernel.replies[1][0].ok
    assert seats(kernel) == [(0, 2, "ready")]


WORDS = [channel.Ready(), channel.BootFailed("config", "it says"), None]


@pytest.mark.parametrize(("first", "second"), list(itertools.product(WORDS, WORDS)))
def test_a_trial_has_one_word(first, second):
    kernel = running(Kernel(1))
    kernel.ask(Command.RELOAD, 1)
    kernel.turn()
    (trial,) = [one for one in kernel.processes.values() if one.kind == TRIAL]
    assert trial.pid in killed(said(kernel, trial.pid, first, second))
    kernel.turn()
    (verdict,) = kernel.replies[1]
    assert not verdict.ok
    assert "protocol violation of the trial" in verdict.text
    assert seats(kernel) == [(0, 1, "ready")]


@pytest.mark.parametrize("message", [channel.Ready(), None])
def test_who_is_no_child_is_not_killed(message):
    kernel = running(Kernel(1))
    assert killed(said(kernel, 99999, message)) == []
