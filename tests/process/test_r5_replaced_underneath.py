"""R5: what is installed is exchanged while the daemon runs; signals that come meanwhile are not lost."""

from __future__ import annotations

import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.processes import wait_until


def test_r5_signals_that_come_during_the_exec_are_not_lost(daemon):
    """TERM in the very moment of the exec: pending signals go over to the new image."""
    one = daemon(paste=pipeline("hello"), workers=1).start()
    one.allow("upgrade failed")
    one.signal(signal.SIGUSR2)
    one.wait_for_log("upgrade: generation 2 is being prepared")

    def preflights():
        return [pid for pid in one.worker_pids() if "check-config" in processes.command(pid)]

    (trial,) = wait_until(preflights, "a preflight")
    wait_until(lambda: not processes.alive(trial), "the preflight ends", 20, 0.0005)
    one.signal(signal.SIGTERM)
    assert one.wait(20) == 0
    assert "stopped" in one.log()


@pytest.mark.slow
def test_r5_a_virtualenv_that_is_replaced_underneath(daemon, tmp_path, load, say):
    """The program lies in an environment behind a symbolic link; the link is switched and the old environment removed."""

    def environment(name):
        venv = tmp_path / name
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
        site = next((venv / "lib").glob("python*/site-packages"))
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        (site / "ours.pth").write_text(f"{pathlib.Path(__file__).parents[2]}\n{ours}\n")
        script = venv / "bin" / "apid"
        script.write_text(
            f"#!{tmp_path}/current/bin/python\nfrom apid.cli.main import apid\nraise SystemExit(apid())\n"
        )
        script.chmod(0o755)
        return venv

    old = environment("venv-1")
    (tmp_path / "current").symlink_to(old)
    one = daemon(
        paste=pipeline("recording", file=tmp_path / "executed"), workers=2, program=[str(tmp_path / "current/bin/apid")]
    )
    one.executed = tmp_path / "executed"
    one.start()
    pid = one.pid
    with load(one, mode="mix", connections=8, processes=1) as running:
        new = environment("venv-2")
        (tmp_path / "switching").symlink_to(new)
        (tmp_path / "switching").rename(tmp_path / "current")
        shutil.rmtree(old)
        assert one.ask("upgrade")["ok"]
        figures = running.stop()
    say(str(figures))
    assert figures.errors == 0, figures
    assert one.pid == pid
    assert "upgraded: version" in one.log()
    assert one.ask("reload")["ok"]
    assert one.stop() == 0
