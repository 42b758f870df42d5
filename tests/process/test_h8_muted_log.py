"""H8: an application that closes, disables and replaces logging mutes itself, and not the daemon's log or access log."""

from __future__ import annotations

import pytest

from tests.support.apps import pipeline
from tests.support.client import Connection, get
from tests.support.processes import wait_until


@pytest.mark.both_engines(slow=True)
@pytest.mark.parametrize("workers", [1, 0])
@pytest.mark.parametrize("file", [True, False], ids=["log_file", "stderr"])
def test_what_the_daemon_reports_reaches_its_log(daemon, tmp_path, workers, file):
    address, target = f"{tmp_path}/s", tmp_path / "daemon.log"
    one = daemon(
        paste=pipeline("muting"),
        workers=workers,
        bind=f"unix:{address}",
        log_file=target if file else None,
        access_log="-",
        graceful_shutdown_timeout=1,
        control_socket=tmp_path / "d0" / "ctl" if workers else None,
    )

    def log() -> str:
        return (target.read_text() if target.exists() else "") if file else one.log()

    one.launch()
    wait_until(lambda: "ready: " in log(), "the daemon is ready", 30)
    one.allow("this request failed", "ERROR apid.server")
    assert get(address, "/raise").status == 500
    assert "ValueError: this request failed" in log()
    assert get(address, "/").status == 200
    if workers:
        one.apidctl("reopen")
        one.apidctl("dump")
        assert " threads\n" in log()
    with Connection(address) as waiting:
        waiting.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert get(address, "/").status == 200
        assert one.stop() == 1
    assert "the drain deadline cut: GET /wait" in log()
    lines = [line for line in one.log().splitlines() if line.startswith("unix")]
    asked = [line.split('"')[1].split()[1] for line in lines]
    assert sorted(asked) == [
        "/",
        "/",
        "/raise",
        "/wait",
    ]  # a native thread's line may come after that of a later request
