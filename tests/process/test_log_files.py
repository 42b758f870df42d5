"""Log files that are moved away."""

from __future__ import annotations

import http.client
import pathlib
import signal

from tests.support.daemon import TOP
from tests.support.processes import wait_until

PASTE = (TOP / "etc" / "apid" / "api-paste.ini").read_text()


def test_a_log_that_cannot_be_opened_anew_harms_nobody(daemon, tmp_path):
    directory = tmp_path / "log"
    directory.mkdir()
    one = daemon(paste=PASTE, log_file=directory / "apid.log")
    one.launch()
    wait_until(lambda: "ready: 2 workers" in read(directory / "apid.log"), "apid is ready", 30)
    directory.rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "apid.log"
    done = one.apidctl("reopen", check=False)
    assert done.returncode == 1
    reason = f"the log file {directory}/apid.log cannot be opened: No such file or directory"
    for who in ["parent", "worker 0", "worker 1"]:
        assert f"{who}: {reason}" in done.stderr
    port = int(read(moved).partition("listening on 127.0.0.1:")[2].split()[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().status == 300
    connection.close()
    one.signal(signal.SIGTERM)
    assert one.wait() == 0
    assert "stopped" in read(moved)


def read(path: pathlib.Path) -> str:
    return path.read_text() if path.exists() else ""
