"""H10: no log can stop the parent or a worker: a FIFO without a reader, a pipe whose reader has stopped, a full disk."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from tests.support.apps import pipeline
from tests.support.client import Connection, get
from tests.support.daemon import PROGRAM
from tests.support.processes import wait_until

REQUESTS = 1500

APPEND = """
[loggers]
keys = root
[handlers]
keys = file
[formatters]
keys =
[logger_root]
level = INFO
handlers = file
[handler_file]
class = FileHandler
args = ({path!r},)
"""


@pytest.mark.parametrize("append", [False, True], ids=["log_file", "log_config_append"])
def test_logs_that_have_become_fifos_without_a_reader(daemon, tmp_path, append):
    address = f"{tmp_path}/s"
    paths = [tmp_path / "daemon.log", tmp_path / "access.log"]
    options: dict[str, object] = {"log_file": paths[0]}
    if append:
        (tmp_path / "logging.conf").write_text(APPEND.format(path=str(paths[0])))
        options = {"log_config_append": tmp_path / "logging.conf"}
    one = daemon(paste=pipeline("hello"), workers=1, bind=f"unix:{address}", access_log=paths[1], **options)
    one.launch()
    wait_until(lambda: paths[0].exists() and "ready: 1 worker" in paths[0].read_text(), "the daemon is ready", 30)
    for path in paths:
        path.rename(f"{path}.1")
        os.mkfifo(path)
    one.apidctl("reopen", timeout=10)
    one.signal(signal.SIGUSR1)
    with Connection(address) as client:
        for _ in range(REQUESTS):
            assert client.request("GET", "/").status == 200
    assert one.ask("dump", timeout=10)["ok"]
    assert one.stop(deadline=10) == 0


@pytest.mark.both_engines(slow=True)
def test_a_standard_output_and_error_that_nobody_reads(daemon, tmp_path):
    """As under a journald that has stopped: the workers answer, the parent obeys, and what is lost is counted."""
    address, fifo = f"{tmp_path}/s", str(tmp_path / "fifo")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        shell = ["/bin/sh", "-c", f'exec "$0" "$@" > {fifo} 2>&1', str(PROGRAM)]
        one = daemon(paste=pipeline("hello"), workers=2, bind=f"unix:{address}", access_log="-", program=shell)
        one.launch()
        one.wait_served()
        with Connection(address) as client:
            for _ in range(REQUESTS):
                assert client.request("GET", "/").status == 200
        for _ in range(40):  # the parent logs each of them
            assert not one.ask("scale", number=-1, timeout=10)["ok"]
        assert one.ask("reload", timeout=30)["ok"]
        text = drain(reader)
        one.wait_for_workers(2)  # those of the first generation have ended, and counted what they lost
        lost = one.status()["totals"]["access_log_lost"]
        assert get(address, "/").status == 200
        assert one.stop(deadline=15) == 0
        text += drain(reader)
    finally:
        os.close(reader)
    written = len(re.findall(r'^unix - - .* "GET / HTTP/1.1" 200 \d+ \S+ req-\S+$', text, re.MULTILINE))
    assert lost > 0
    assert written + lost == REQUESTS + 1
    assert "lines of the log were lost here: nobody read it" in text


def drain(reader: int) -> str:
    data = b""
    while True:
        try:
            data += os.read(reader, 1 << 20)
        except BlockingIOError:
            return data.decode()


def test_an_access_log_whose_disk_is_full_for_a_while(daemon, tmp_path):
    """RLIMIT_FSIZE of the workers stands for the disk: it is lifted from outside and cuts a line in its middle as ENOSPC does."""
    import resource

    address, path = f"{tmp_path}/s", tmp_path / "access.log"
    one = daemon(paste=pipeline("hello"), workers=2, bind=f"unix:{address}", access_log=path, access_log_format="json")
    one.options["log_file"] = tmp_path / "daemon.log"
    one.write_config()
    one.launch()
    log = tmp_path / "daemon.log"
    wait_until(lambda: log.exists() and "ready: 2 workers" in log.read_text(), "the daemon is ready", 30)
    one.allow("lines (are|were) lost")
    answered = 0

    def ask(times: int) -> None:
        nonlocal answered
        for _ in range(times):
            assert get(address, "/").status == 200
            answered += 1

    ask(5)
    wait_until(lambda: path.read_text().count("\n") == 5, "the first lines", 10)
    full = path.stat().st_size + 100  # in the middle of the next line
    for pid in one.worker_pids():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
    wait_until(lambda: ask(20) or path.stat().st_size == full, "a file that is full", 30)
    ask(50)
    wait_until(lambda: "lines are lost: File too large" in log.read_text(), "a line about the loss", 10)
    for pid in one.worker_pids():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ask(50)
    counted = one.status()["totals"]["access_log_lost"]
    assert one.stop() == 0
    lines = path.read_text().splitlines()
    if "" in lines:  # both workers have ended the torn line, at the same moment
        lines.remove("")
    torn = [line for line in lines if not (line.startswith("{") and line.endswith("}"))]
    assert len(torn) <= 1
    whole = [json.loads(line) for line in lines if line not in torn]
    assert len({entry["request_id"] for entry in whole}) == len(whole)
    lost = sum(int(number) for number in re.findall(r"(\d+) lines were lost: File too large", log.read_text()))
    assert lost == counted > 0
    assert len(whole) + lost == answered
