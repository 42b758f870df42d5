"""A start with standard streams closed, as some supervisors and scripts do it (`apid >&- 2>&-`)."""

from __future__ import annotations

import pathlib

from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.daemon import PROGRAM
from tests.support.processes import wait_until


def test_nothing_of_the_daemon_gets_their_numbers(daemon, tmp_path):
    address, log = f"{tmp_path}/s", tmp_path / "daemon.log"
    shell = ["/bin/sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', str(PROGRAM)]
    one = daemon(
        paste=pipeline("hello"), workers=1, bind=f"unix:{address}", log_file=log, access_log="-", program=shell
    )
    one.launch()
    wait_until(lambda: log.exists() and "ready: 1 worker" in log.read_text(), "the daemon is ready", 30)
    assert get(address, "/").status == 200
    for pid in [one.pid, *one.worker_pids()]:
        assert {str(pathlib.Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in range(3)} == {"/dev/null"}
    assert one.stop() == 0
    assert "ERROR" not in log.read_text()
