"""H11: nothing between the exec of an upgrade and the first turn of the new loop ends the daemon; its workers serve on."""

from __future__ import annotations

import textwrap

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.processes import wait_until

SITE = """
import os, pathlib
fault = pathlib.Path(os.environ["FAULT"])
if "APID_STATE_FD" in os.environ and fault.exists():
    import apid.cli.serve
    from apid import conf
    from apid.parent import ownlog, upgrade
    from apid.scoreboard import Scoreboard
    def break_(owner, name):
        kept = getattr(owner, name)
        def broken(*arguments, **more):
            if fault.exists():
                raise RuntimeError("injected")
            return kept(*arguments, **more)
        setattr(owner, name, broken)
    for text in fault.read_text().split():
        owner, _, name = text.partition(".")
        break_({"conf": conf, "ownlog": ownlog, "upgrade": upgrade, "board": Scoreboard}[owner], name)
"""


@pytest.mark.slow
def test_h11_faults_after_the_exec(daemon, tmp_path):
    """One daemon is upgraded with each fault."""
    fault = tmp_path / "fault"
    one = daemon(
        paste=pipeline("hello"),
        workers=1,
        pid_file=tmp_path / "pid",
        environment={"FAULT": str(fault)},
        log_file="own.log",
    )
    (one.directory / "sitecustomize.py").write_text(textwrap.dedent(SITE))
    one.log_path = one.directory / "own.log"
    one.start()
    address = one.address
    for count, name in enumerate(["conf.load", "ownlog.set_up", "board.attach", "upgrade.PidFile"], 1):
        fault.write_text(name)
        answer = one.ask("upgrade", timeout=30)
        assert get(address).status == 200, name
        if name == "conf.load":
            assert not answer["ok"]
            assert "RuntimeError: injected" in answer["text"]
        fault.unlink()
        if name != "ownlog.set_up":
            assert one.log().count("upgraded: version") >= count - 1
        assert one.ask("reload")["ok"], name
        wait_until(lambda: one.status()["ready"] == 1 and len(one.worker_pids()) == 1, "one worker")
    assert one.process.poll() is None
    one.allow(".")


@pytest.mark.slow
def test_h11_a_lost_scoreboard_takes_the_mold_with_it(daemon, tmp_path):
    """It has mapped the lost one, and so would its workers; the upgrade fails, so the generation remains."""
    fault = tmp_path / "fault"
    one = daemon(paste=pipeline("hello"), workers=1, environment={"FAULT": str(fault)})
    (one.directory / "sitecustomize.py").write_text(textwrap.dedent(SITE))
    one.start()
    one.allow(".")
    (mold,) = [mold["pid"] for mold in one.status()["molds"]]
    fault.write_text("board.attach conf.load")
    assert not one.ask("upgrade", timeout=30)["ok"]
    fault.unlink()
    wait_until(lambda: not processes.alive(mold), "the end of the mold")
    assert get(one.address).status == 200
    assert one.ask("reload")["ok"]
    assert get(one.address).status == 200
    assert [mold["generation"] for mold in one.status()["molds"]] == [one.status()["generation"]]
