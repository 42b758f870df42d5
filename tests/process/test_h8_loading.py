"""H8: while an application loads, signals are what they are in any process, wherever it is loaded; and none is lost."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.processes import wait_until

ORDINARY = (  # a Python 3.13 ignores signal 32, which glibc keeps for itself
    r"child SigBlk:\t0000000000000000 SigIgn:\t00000000[08]0000000; ended -15;"
    r" threads \['SigBlk:\\t0000000000000000', 'SigBlk:\\t0000000000000000'\]; blocked \[\]"
)


def loads(one):
    file = one.directory / "loads"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.slow
def test_h8_what_it_starts_while_it_loads_has_ordinary_signals(daemon):
    one = daemon(paste=pipeline("starting", file="loads"), workers=1, preload="off").start()
    assert len(loads(one)) == 1
    one.apidctl("reload")
    assert len(loads(one)) == 3, "trial and worker"
    one.apidctl("upgrade")
    assert len(loads(one)) == 5, "preflight and worker"
    assert one.stop() == 0
    one.arguments = ["--check-config"]
    assert one.launch().wait() == 0
    assert len(loads(one)) == 6
    one.arguments = ["--workers", "0"]
    one.launch()
    wait_until(lambda: len(loads(one)) == 7, "inline")
    one.wait_for_log("ready: serving inline")
    assert one.stop() == 0
    for line in loads(one):
        assert re.fullmatch(ORDINARY, line)


@pytest.mark.both_engines
@pytest.mark.parametrize("signums", [(signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM), (signal.SIGTERM,)])
def test_h8_a_signal_to_a_booting_worker_waits_until_it_is_ready(daemon, signums):
    one = daemon(paste=pipeline("starting", file="loads", wait="go"), workers=1, preload="off").launch()
    one.allow("worker ended: exit:0", "received SIGALRM, for which")
    wait_until(lambda: loads(one), "it loads")
    (pid,) = one.wait_for_workers(1)
    for signum in signums:
        os.kill(pid, signum)
    (one.directory / "go").touch()
    one.wait_ready()
    if signal.SIGTERM in signums:
        one.wait_for_log(rf"pid={pid} received SIGTERM: draining")
        one.wait_for_workers(1, but=[pid])
        wait_until(lambda: one.status()["ready"] == 1, "its successor")
    assert get(one.address).status == 200
    assert one.worker_pids() == [pid] or signal.SIGTERM in signums
    assert one.stop() == 0


@pytest.mark.both_engines
def test_h8_inline_a_load_that_waits_can_be_interrupted(daemon):
    one = daemon(paste=pipeline("starting", file="loads", wait="never"), workers=0, control_socket=None).launch()
    one.allow("KeyboardInterrupt", "Traceback")
    wait_until(lambda: loads(one), "it loads")
    assert one.stop(signal.SIGINT, deadline=10) != 0
