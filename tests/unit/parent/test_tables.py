"""The two tables: every pair is walked; what is not in them raises, and changes nothing."""

from __future__ import annotations

import itertools
import signal

import pytest

from apid.conf.settings import Daemon
from apid.parent import events
from apid.parent.children import Child, Children
from apid.parent.lifecycle import TABLE, ImpossibleTurnError, Stage, Turn, after
from apid.parent.phases import NEXT, REFUSALS, SIGNALS, Command, Phase, ending
from apid.parent.plan import Plan


@pytest.mark.parametrize(("stage", "turn"), list(itertools.product(Stage, Turn)))
def test_a_turn_is_in_the_table_or_raises_and_changes_nothing(stage, turn):
    child = Child(100, 0, 1, 0, 0.0, stage)
    if (stage, turn) in TABLE:
        child.turn(turn)
        assert child.stage is TABLE[stage, turn]
        return
    with pytest.raises(ImpossibleTurnError, match=f"a {stage} worker cannot be {turn}"):
        child.turn(turn)
    assert child.stage is stage


def test_every_stage_ends_and_the_end_is_final():
    for stage in Stage:
        if stage is not Stage.GONE:
            assert after(stage, Turn.EXIT) is Stage.GONE
            assert after(Stage.KILLED if stage is Stage.KILLED else stage, Turn.KILL) is Stage.KILLED
    assert not [pair for pair in TABLE if pair[0] is Stage.GONE]


def test_ready_is_said_by_one_who_boots_and_draining_follows_ready_only():
    assert [stage for (stage, turn), then in TABLE.items() if then is Stage.READY] == [Stage.BOOTING]
    assert [stage for (stage, turn), then in TABLE.items() if then is Stage.DRAINING] == [Stage.READY]


@pytest.mark.parametrize(("phase", "command"), list(itertools.product(Phase, Command)))
def test_a_command_in_a_phase_is_followed_refused_or_has_no_effect_on_it(phase, command):
    if phase is Phase.ENDED:
        return
    plan = Plan.new(Daemon(workers=1), 0.0)
    plan.state.phase = phase
    plan.state.ever_ready = True
    plan.state.children.add(Child(100, 0, 1, 0, 0.0, Stage.READY, 1.0))
    actions = plan.handle(events.Asked(command, 7, 2), 1.0)
    replies = [action for action in actions if isinstance(action, events.Reply)]
    if (phase, command) in REFUSALS:
        assert [reply.ok for reply in replies] == [False]
        assert REFUSALS[phase, command] in replies[0].text
        assert (phase, command) not in NEXT
    elif (phase, command) in NEXT and NEXT[phase, command] is not Phase.LEAVING:
        assert plan.state.phase in (NEXT[phase, command], Phase.ENDED)


def test_a_stop_always_leads_to_an_end_and_nothing_leads_back():
    for (before, _), then in NEXT.items():
        assert ending(then) or not ending(before)
    for phase in Phase:
        if phase is not Phase.ENDED:
            assert NEXT[phase, Command.HALT] is Phase.HALTING


def test_every_signal_has_one_meaning_and_no_two_are_the_same_by_chance():
    assert SIGNALS[signal.SIGTERM] is Command.STOP
    assert SIGNALS[signal.SIGINT] is SIGNALS[signal.SIGQUIT] is Command.HALT
    assert len(set(SIGNALS.values())) == len(SIGNALS) - 1
    assert set(Command) - set(SIGNALS.values()) == {Command.SCALE, Command.DUMP}


def test_children_by_pid_slot_generation_and_stage():
    children = Children()
    for pid, slot, generation in [(1, 0, 1), (2, 1, 1), (3, 0, 2)]:
        children.add(Child(pid, slot, generation, pid, 0.0))
    with pytest.raises(ValueError, match="is a child already"):
        children.add(Child(2, 5, 5, 5, 0.0))
    children.get(3).turn(Turn.READY)
    assert [child.pid for child in children.of(1)] == [1, 2]
    assert [child.pid for child in children.of(1, slot=1)] == [2]
    assert [child.pid for child in children.of(2, stage=Stage.READY)] == [3]
    assert children.remove(2).slot == 1
    assert 2 not in children
    assert children.statistics() == {"booting": 1, "ready": 1, "draining": 0, "killed": 0}
    assert "booting" in repr(children)
