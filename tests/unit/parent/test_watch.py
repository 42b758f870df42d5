"""H2 in pure arithmetic: nobody is accused for what the parent itself missed. And H1: whoever really hangs is found in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apid.parent.backoff import FIRST, LONGEST, STABLE, Backoff
from apid.parent.watch import CLOSE_LOOK, HELD_UP, LOOK, SILENT, Watch

TIMEOUT = 4.0


def looks(watch, until, beat, *, start, timeout=TIMEOUT, step=None):
    """Look whenever it is due, from `start` to `until`; `beat(now)` is the last beat at that time. Yields (now, findings)."""
    now = start
    while now < until:
        yield now, watch.look(now, {1: beat(now)}, timeout)
        now = max(watch.due, now + (step or 0.0))


def test_a_worker_that_stops_beating_is_stalled_then_hung_in_time():
    watch = Watch()
    stopped = 103.2
    seen = [(now, f[0]) for now, f in looks(watch, 120, lambda now: min(now, stopped), start=100.0) if f]
    stalled = next(now for now, finding in seen if finding.silent)
    hung = next(now for now, finding in seen if finding.hung)
    assert SILENT <= stalled - stopped <= SILENT + LOOK
    assert TIMEOUT <= hung - stopped <= TIMEOUT + CLOSE_LOOK


def test_one_who_beats_again_is_reported_once():
    watch = Watch()
    beats = lambda now: now if now < 103 or now > 106 else 103  # noqa: E731 - a function in a line
    findings = [f[0] for _, f in looks(watch, 110, beats, start=100.0) if f]
    assert [finding.silent for finding in findings].count(False) == 1
    assert not any(finding.hung for finding in findings)


def test_timeout_0_calls_nobody_hung():
    watch = Watch()
    assert not any(f and f[0].hung for _, f in looks(watch, 500, lambda _: 100.0, start=100.0, timeout=0.0))


@pytest.mark.parametrize("beat", [0.0, 1e9, 2**64 / 1e9], ids=["none", "to come", "the greatest"])
def test_a_beat_that_no_hub_has_written_is_none(beat):
    """An application that writes into its row does not become a worker that is never looked at again."""
    hung = [now for now, f in looks(Watch(), 120, lambda _: beat, start=100.0) if f and f[0].hung]
    assert TIMEOUT <= hung[0] - 100.0 <= TIMEOUT + LOOK
    recovered = looks(Watch(), 120, lambda now: beat if now < 103 else now, start=100.0)
    assert not any(f and f[0].hung for _, f in recovered)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40))
def test_arbitrary_beats(beats):
    watch = Watch()
    for turn, beat in enumerate(beats):
        for finding in watch.look(1000.0 + turn, {1: beat / 1e9}, TIMEOUT):
            assert finding.age >= -2 * SILENT


@given(st.floats(HELD_UP + 0.01, 3600), st.floats(0, 0.5))
def test_a_parent_that_was_away_accuses_nobody(away, wakes_after):
    """All were stopped together (a suspended machine), or the parent alone: the beats are old at the first look in both cases."""
    watch = Watch()
    for _ in looks(watch, 110.0, lambda now: now, start=100.0):
        pass
    back = watch.due + away
    assert watch.look(back, {1: 109.9}, TIMEOUT) == []
    # from now on they beat again, `wakes_after` seconds later
    findings = [
        f
        for _, f in looks(
            watch, back + 30, lambda now: max(109.9, now if now >= back + wakes_after else 0), start=watch.due
        )
    ]
    assert not any(f and f[0].hung for f in findings)


def test_a_worker_that_hung_while_the_parent_was_away_is_found_soon_after():
    watch = Watch()
    for _ in looks(watch, 110.0, lambda now: now, start=100.0):
        pass
    back = watch.due + 60
    watch.look(back, {1: 109.9}, TIMEOUT)
    hung = next(now for now, f in looks(watch, back + 30, lambda _: 109.9, start=watch.due) if f and f[0].hung)
    assert hung - back <= 1.0


def test_a_starved_parent_whose_every_look_is_late_kills_nobody():
    """It cannot know: as long as it comes too late itself, its judgement is not worth anything."""
    watch = Watch()
    findings = [f for _, f in looks(watch, 400, lambda _: 100.0, start=100.0, step=CLOSE_LOOK + HELD_UP + LOOK)]
    assert not any(f and f[0].hung for f in findings)


@given(st.lists(st.floats(0, 30), max_size=30))
def test_a_pause_is_never_longer_than_half_a_minute(lives):
    backoff = Backoff()
    now, pauses = 0.0, []
    for life in lives:
        now += life
        pauses.append(backoff.died(now, life))
        assert 0 <= pauses[-1] <= LONGEST
        assert backoff.not_before == now + pauses[-1]
        now = backoff.not_before
        if life >= STABLE:
            assert pauses[-1] == 0, "once by accident is no loop"


def test_the_pauses_double():
    backoff = Backoff()
    assert [backoff.died(0, 0) for _ in range(8)] == [0, FIRST, 2, 4, 8, 16, 30, 30]
