"""TimerWheel: never early, at most a grain late, and cheap to move away."""

from hypothesis import given
from hypothesis import strategies as st

from apid.server.timer_wheel import NEVER, TimerWheel


class Thing:
    def __init__(self):
        self.deadline = NEVER
        self.tick = -1
        self.at = None

    def expired(self):
        self.at = self.deadlines_now()


def run(deadlines, things, until, step):
    now = 0.0
    while now < until:
        now += step
        for thing in things:
            thing.deadlines_now = lambda now=now: now
        deadlines.turn(now)


@given(st.lists(st.floats(0, 20), max_size=20), st.sampled_from([0.02, 0.25, 1.0]), st.booleans())
def test_each_expires_once_and_in_time(moments, grain, refined):
    deadlines = TimerWheel(grain, 0.0)
    things = [Thing() for _ in moments]
    for thing, moment in zip(things, moments, strict=True):
        deadlines.set(thing, moment)
    if refined:
        deadlines.refine(grain / 4)
    run(deadlines, things, 25, grain / 2)
    for thing, moment in zip(things, moments, strict=True):
        assert moment <= thing.at <= moment + 3 * grain
        assert thing.tick == -1


@given(st.floats(1, 10), st.floats(1, 10))
def test_the_last_word_counts(first, second):
    deadlines = TimerWheel(0.25, 0.0)
    thing = Thing()
    deadlines.set(thing, first)
    deadlines.set(thing, second)
    run(deadlines, [thing], 15, 0.1)
    assert second <= thing.at <= second + 0.75


def test_what_is_dropped_or_never_due_does_not_expire():
    deadlines = TimerWheel(0.25, 0.0)
    dropped, never = Thing(), Thing()
    deadlines.set(dropped, 1)
    deadlines.drop(dropped)
    deadlines.drop(dropped)
    deadlines.set(never, 1)
    deadlines.set(never, NEVER)
    run(deadlines, [dropped, never], 5, 0.1)
    assert dropped.at is None
    assert never.at is None
