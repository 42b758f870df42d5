"""The guard's judgement of one worker: a table over its row."""

from __future__ import annotations

import pytest

from apid import scoreboard
from apid.parent import guard
from apid.parent.dismissal import GRACE
from apid.parent.watch import SILENT

DIED = 1000.0
READY, DRAINING, BOOTING = scoreboard.State.READY, scoreboard.State.DRAINING, scoreboard.State.BOOTING


@pytest.mark.parametrize(
    ("state", "beat", "until", "now", "ended"),
    [
        (READY, DIED - 0.1, 0, DIED + SILENT - 0.1, False),
        (READY, DIED - 30, 0, DIED + SILENT - 0.1, False),
        (READY, DIED - 30, 0, DIED + SILENT + 0.1, True),
        (READY, DIED + 1, 0, DIED + SILENT + 0.5, False),
        (READY, DIED + 1, 0, DIED + 1 + SILENT + 0.1, True),
        (READY, DIED + GRACE, 0, DIED + GRACE + 0.1, True),
        (DRAINING, DIED - 30, DIED + 60, DIED + 60 + GRACE - 0.1, False),
        (DRAINING, DIED - 30, DIED + 60, DIED + 60 + GRACE + 0.1, True),
        (DRAINING, DIED - 30, 0, DIED + 1e6, False),
        (BOOTING, 0, 0, DIED + 1e6, False),
    ],
)
def test_who_is_ended(state, beat, until, now, ended):
    row = scoreboard.Scoreboard.create().row(0)
    row.cells[scoreboard.STATE] = state
    row.cells[scoreboard.BEAT_NS] = int(beat * 1e9)
    row.cells[scoreboard.UNTIL_NS] = int(until * 1e9)
    assert bool(guard.overdue(row.cells, int(DIED * 1e9), int(now * 1e9))) is ended
