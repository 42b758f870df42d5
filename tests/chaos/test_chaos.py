"""Sessions of the chaos driver. CHAOS_SEED repeats a sequence of actions, CHAOS_SECONDS sets the length of the long session."""

from __future__ import annotations

import faulthandler
import os
import random

import pytest

from tests.chaos.actions import TABLE
from tests.chaos.session import Session

SEED = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(1_000_000)))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "420"))


def test_the_sequence_of_a_seed_is_always_the_same(tmp_path):
    def draw(seed, where):
        where.mkdir()
        session = Session(where, seed)
        return [(name, dice.random()) for name, dice in (session.draw() for _ in range(400))]

    assert draw(5, tmp_path / "a") == draw(5, tmp_path / "b") != draw(6, tmp_path / "c")
    assert {name for name, _ in draw(7, tmp_path / "d")} == set(TABLE)


@pytest.mark.slow
def test_a_long_session(tmp_path):
    """Whatever may happen, for seven minutes."""
    faulthandler.cancel_dump_traceback_later()  # pytest's, after five minutes
    session = Session(tmp_path, SEED)
    session.run(SECONDS)
    assert session.figures["answered"] > 5 * SECONDS
