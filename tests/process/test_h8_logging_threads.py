"""H8: native threads log while requests do; everything answers, and each line stands whole in every log."""

from __future__ import annotations

import re
import threading

import pytest

from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.processes import wait_until

pytestmark = pytest.mark.both_engines

THREADS = 3
LINES = 400
REQUESTS = 60

APPEND = """
[loggers]
keys = root
[handlers]
keys = file, error
[formatters]
keys = plain
[logger_root]
level = INFO
handlers = file, error
[handler_file]
class = FileHandler
args = ({path!r},)
formatter = plain
[handler_error]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(levelname)s %(name)s %(identity)s %(message)s
"""


@pytest.mark.parametrize("append", [False, True], ids=["log_file", "log_config_append"])
def test_everybody_logs_at_once(daemon, tmp_path, append):
    target = tmp_path / "daemon.log"
    options: dict[str, object] = {"log_file": target}
    if append:
        (tmp_path / "logging.conf").write_text(APPEND.format(path=str(target)))
        options = {"log_config_append": tmp_path / "logging.conf"}
    address = f"{tmp_path}/s"
    paste = pipeline("threads_logging", directory=tmp_path, threads=THREADS, lines=LINES)
    one = daemon(paste=paste, workers=1, bind=f"unix:{address}", **options)
    one.launch()
    wait_until(lambda: "ready: 1 worker" in target.read_text() if target.exists() else False, "the daemon is ready", 30)
    assert get(address, "/start", timeout=30).status == 200
    statuses: list[int] = []
    clients = [
        threading.Thread(
            target=lambda n=n: statuses.extend(get(address, f"/log/{n}.{m}", timeout=30).status for m in range(10))
        )
        for n in range(REQUESTS // 10)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert statuses == [200] * REQUESTS
    assert get(address, "/wait", timeout=30).status == 200
    assert one.stop() == 0
    expected = {f"thread {thread} line {line} {'x' * 100}" for thread in range(THREADS) for line in range(LINES)}
    expected |= {
        f"request {n}.{m} {what}" for n in range(6) for m in range(10) for what in ("begins", "offloads", "ends")
    }
    for path, line in [
        (target, r".*?INFO app worker=0 gen=1 pid=\d+ (?:\[\S+\] )?((?:thread|request) .*)"),
        (tmp_path / "own.log", "(.*)"),
        (tmp_path / "slow.log", "<([^<>]*)>"),
    ]:
        lines = [text for text in path.read_text().splitlines() if " apid" not in text]
        found = [re.fullmatch(line, text) for text in lines]
        assert all(found), [text for text, match in zip(lines, found, strict=True) if not match][:3]
        assert len(found) == len(expected)
        assert {match[1] for match in found if match} == expected, path
