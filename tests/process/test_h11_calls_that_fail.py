"""H11: each call of the parent fails in turn with each error, at a start, a reload and an upgrade (tests.support.injection)."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

PARTS = 72


def every_call_fails(scenario, part, parts, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.injection", scenario, str(tmp_path), str(part), str(parts)],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == ""


@pytest.mark.parametrize("scenario", ["start", "reload", "upgrade"])
def test_h11_calls_that_fail(scenario, tmp_path):
    """Every 72nd pair of call and error."""
    every_call_fails(scenario, 0, PARTS, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
@pytest.mark.parametrize("scenario", ["start", "reload", "upgrade"])
def test_h11_every_call_fails(scenario, part, tmp_path):
    every_call_fails(scenario, part, 6, tmp_path)
