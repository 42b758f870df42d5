"""H3: workers that die as soon as they live are replaced calmly: back-off, few lines, `degraded`, and normal once one lives."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.processes import wait_until

SECONDS = 5


AFTER_FORK = """
import os, pathlib
def after_fork(slot, generation, pid):
    if pathlib.Path({how!r}).exists():
        os._exit(3)
"""


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.parametrize("preload", ["off", "on"])
def test_h3_a_crash_loop_is_calm(daemon, say, preload):
    one = daemon(paste=pipeline("hello"), workers=1, preload=preload)
    how = one.directory / "how"
    if preload == "off":
        one.paste.write_text(pipeline("bad_at_load", how=how))
    else:
        (one.directory / "forked.py").write_text(AFTER_FORK.format(how=str(how)))
        one.options["after_fork"] = "forked:after_fork"
        one.write_config()
    one.start()
    (victim,) = one.wait_for_workers(1)
    how.write_text("exit")
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: one.status()["degraded"], "it calls itself degraded", 20)
    cpu, lines = processes.cpu_seconds(one.pid), one.log().count("\n")
    time.sleep(SECONDS)  # the time over which the parent's use is measured
    used, forks = processes.cpu_seconds(one.pid) - cpu, one.log().count("\n") - lines
    say(f"the parent used {used / SECONDS:.1%} of a core and wrote {forks} lines in {SECONDS} s")
    assert used / SECONDS < 0.05
    how.unlink()
    wait_until(lambda: one.status()["ready"] == 1, "a good worker", 40)
    wait_until(lambda: not one.status()["degraded"], "it is normal again", 5)
    assert get(one.address).status == 200
    one.allow(".")
    assert one.stop() == 0
