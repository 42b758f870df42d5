"""docs/SIGNALS.md says what the tables say."""

from __future__ import annotations

import pathlib
import re
import signal
import subprocess
import sys

import pytest

from apid.errors import ExitCode
from apid.parent.phases import NEXT, REFUSALS, SIGNALS, Command, Phase

TEXT = (pathlib.Path(__file__).parents[3] / "docs" / "SIGNALS.md").read_text(encoding="utf-8")

WORKERS = """
from apid.posix.signals import LAST_STACKS, STACKS
from apid.worker.shield import SIGNALS, SPARE
print(*map(int, {*SIGNALS, *SPARE, STACKS, LAST_STACKS}))
"""


def table(heading):
    """The rows of the first table below a heading, each a list of its cells."""
    part = TEXT.split(f"{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", part, re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|---")]


def test_the_parents_signals():
    rows = table("## To the parent")[1:]
    assert {name: command for name, command, _ in rows} == {
        signal.Signals(number).name.removeprefix("SIG"): command.value for number, command in SIGNALS.items()
    }


def test_the_workers_signals():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", WORKERS], capture_output=True, text=True, check=True)
    names = {signal.Signals(int(number)).name.removeprefix("SIG") for number in done.stdout.split()}
    assert {name for name, _ in table("## To a worker")[1:]} == names


HEAD, *ROWS = table("### What a command does in each phase")
CELLS = [
    (Phase(row[0]), Command(command), cell)
    for row in ROWS
    for commands, cell in zip(HEAD[1:], row[1:], strict=True)
    for command in commands.split(", ")
]


@pytest.mark.parametrize(("phase", "command", "cell"), CELLS, ids=lambda value: str(value).replace(" ", "-"))
def test_what_a_command_does_in_a_phase(phase, command, cell):
    assert (cell == "refused") == ((phase, command) in REFUSALS)
    then = NEXT.get((phase, command), phase)
    assert then == cell if cell in set(Phase) else then is phase or cell == "nothing new"


def test_every_phase_and_command_is_there():
    assert {phase for phase, _, _ in CELLS} == set(Phase) - {Phase.ENDED}
    assert {command for _, command, _ in CELLS} == set(Command)


def test_the_exit_codes():
    part = TEXT.split("## Exit codes", 1)[1]
    assert {int(number) for number in re.findall(r"(?:^|· |\n)(\d+) ", part)} == set(map(int, ExitCode))
