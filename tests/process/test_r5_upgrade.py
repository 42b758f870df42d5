"""R5 and R6: the installed program is exchanged under load, and one that cannot start is not taken."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import pytest

from tests.support.daemon import CONTROL, TOP
from tests.support.processes import wait_until

LAUNCHER = """\
#!{python}
import sys
from apid.cli.main import apid
sys.exit(apid())
"""


@pytest.fixture
def installed(recording, tmp_path):
    """A daemon of a program that is installed in a directory of its own, and a function that installs another version of it.

    `current` is a symlink, as in a deployment that switches releases.
    """
    current = tmp_path / "current"

    def install(name, mark):
        release = tmp_path / name
        shutil.copytree(TOP / "apid", release / "apid", ignore=shutil.ignore_patterns("__pycache__"))
        init = release / "apid" / "cli" / "__init__.py"
        init.write_text(init.read_text() + f"\n{mark}\n")
        current.unlink(missing_ok=True)
        current.symlink_to(release)

    install("one", "import sys; print('this is release one', file=sys.stderr)")
    launcher = tmp_path / "apid-launcher"
    launcher.write_text(LAUNCHER.format(python=sys.executable))
    launcher.chmod(0o755)
    environment = {"PYTHONPATH": f"{current}:{TOP}"}
    one = recording(workers=2, program=[str(launcher)], environment=environment, startup_timeout=20)
    return one, install


@pytest.mark.also_without_preload
@pytest.mark.both_engines(slow=True)
def test_r5_the_program_is_exchanged_under_load(installed, load, say):
    one, install = installed
    one.start()
    pid, workers = one.pid, one.wait_for_workers(2)
    with load(one, mode="mix", connections=16) as running:
        install("two", "import sys; print('this is release two', file=sys.stderr)")
        done = one.ask("upgrade")
        assert done["ok"], done
        figures = running.stop()
    say(str(figures))
    assert figures.errors == 0, figures
    assert one.pid == pid
    assert one.process.poll() is None
    assert "this is release two" in one.log()
    assert set(one.wait_for_workers(2)).isdisjoint(workers)
    wait_until(lambda: one.status()["totals"]["requests"] >= figures.answered, "the counters were carried over")
    assert one.stop() == 0


@pytest.mark.slow
def test_r5_twice_and_then_a_reload(installed, load):
    one, _ = installed
    one.start()
    with load(one, mode="mix", connections=8, processes=1) as running:
        for generation in (2, 3):
            one.signal(signal.SIGUSR2)
            one.wait_for_log(rf"upgrade: generation {generation} is ready", 30)
        assert one.ask("reload")["ok"]
        figures = running.stop()
    assert figures.errors == 0, figures
    assert one.status()["generation"] == 4
    assert one.stop() == 0


BROKEN = {
    "a syntax error": "def (",
    "a missing import": "import no_such_module_of_ours",
    "an early exit": "import sys; sys.exit(9)",
}


@pytest.mark.parametrize("case", BROKEN)
def test_r6_a_program_that_cannot_start_is_not_taken(installed, load, case):
    one, install = installed
    one.start()
    workers = one.wait_for_workers(2)
    with load(one, mode="mix", connections=8, processes=1) as running:
        install("broken", BROKEN[case])
        command = [str(CONTROL), "--socket", str(one.control), "upgrade"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        figures = running.stop()
    assert done.returncode not in {0, 70}, done
    if case != "an early exit":
        assert "cli/__init__.py" in done.stderr, done
    assert figures.errors == 0, figures
    assert one.wait_for_workers(2) == workers
    assert one.status()["generation"] == 1
    one.allow(".")
    assert one.stop() == 0


def test_r6_a_bad_option_at_an_upgrade(installed):
    one, _ = installed
    one.start()
    workers = one.wait_for_workers(2)
    one.options["workres"] = 2
    one.write_config()
    done = one.ask("upgrade")
    assert not done["ok"]
    assert "workres" in done["text"]
    assert one.wait_for_workers(2) == workers
    one.allow(".")
    assert one.stop() == 0
