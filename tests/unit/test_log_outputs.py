"""Outputs of the log that fail, fill up or are exchanged for others."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from apid import log
from apid.conf.settings import Log
from apid.loggers import logger
from tests.support.processes import descriptors

LOG = logging.getLogger("apid.parent")

pytestmark = pytest.mark.usefixtures("leave_logging_as_it_was")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "apid.log"


def setup(path: Path, identity: str = "pid=4700", **options) -> None:
    log.setup(Log(log_file=str(path), **options), identity=identity)


def test_json_stays_json_when_lines_are_lost():
    code = """
import logging, os
from apid import log
from apid.conf.settings import Log
reading, writing = os.pipe()
os.dup2(writing, 2)
log.setup(Log(use_json=True), identity="worker=0 gen=1 pid=1")
for number in range(100):
    logging.getLogger("app").info("%s", "x" * 3900)
os.read(reading, 1000000)
logging.getLogger("app").info("again")
os.write(1, os.read(reading, 1000000))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    first, last = map(json.loads, done.stdout.splitlines())
    assert re.fullmatch(r"\d\d lines of the log were lost here: nobody read it", first["message"])
    assert (first["level"], first["worker"], last["message"]) == ("WARNING", 0, "again")


def test_a_log_file_that_cannot_be_opened_at_a_reload_stays_the_one_in_use(tmp_path):
    (tmp_path / "dir").mkdir()
    path = tmp_path / "dir" / "apid.log"
    setup(path)
    (tmp_path / "dir").rename(tmp_path / "moved")
    log.reserve(Log(log_file=str(path)), None)
    setup(path, identity=log.identity(0, 1, 2))
    LOG.info("ready")
    first, second = (tmp_path / "moved" / "apid.log").read_text().splitlines()
    assert first.endswith(
        f"ERROR apid.log pid=4700 the log file {path} cannot be opened: No such file or directory;"
        " the file that is open stays in use"
    )
    assert second.endswith("worker=0 gen=1 pid=2 ready")


def test_what_is_reserved_is_what_is_used(tmp_path, path):
    """A worker may not be able to open the file that the parent has opened for it."""
    setup(path)
    log.reserve(Log(log_file=str(tmp_path / "new.log")), None)
    (tmp_path / "new.log").rename(tmp_path / "moved.log")
    setup(tmp_path / "new.log")
    LOG.info("in the new one")
    assert (tmp_path / "moved.log").read_text().endswith("in the new one\n")
    assert not (tmp_path / "new.log").exists()
    open_before = descriptors()
    log.reserve(Log(log_file=str(tmp_path / "third.log")), None)
    assert descriptors() != open_before
    log.release()
    assert descriptors() == open_before


def test_from_log_config_append_to_a_file_and_back(tmp_path, path):
    config, other = tmp_path / "logging.conf", tmp_path / "other.log"
    config.write_text(
        "[loggers]\nkeys = root, some\n[handlers]\nkeys = file\n[formatters]\nkeys =\n"
        "[logger_root]\nlevel = INFO\nhandlers = file\n[logger_some]\nqualname = some\nhandlers = file\n"
        f"[handler_file]\nclass = FileHandler\nargs = ({str(other)!r},)\n"
    )
    daemons = logger("apid.parent")
    for number in range(2):
        setup(path)
        daemons.info("to the file %d", number)
        log.setup(Log(log_config_append=str(config), log_config=config.read_text()), identity="pid=5")
        daemons.info("to the other %d", number)
    setup(path)
    logging.getLogger("some").info("the application's")
    assert other.read_text() == "to the other 0\nto the other 1\n"
    assert re.findall(r"to the file \d|the application's", path.read_text()) == [
        "to the file 0",
        "to the file 1",
        "the application's",
    ]


def test_lines_that_a_full_pipe_did_not_take_are_counted():
    code = """
import logging, os
from apid import log
from apid.conf.settings import Log
reading, writing = os.pipe()
os.set_blocking(writing, False)
os.dup2(writing, 2)
log.setup(Log(), identity="pid=1")
for number in range(100):
    logging.getLogger("app").info("%s", "x" * 4000)
os.read(reading, 1000000)
logging.getLogger("app").info("again")
os.write(1, os.read(reading, 1000000))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, last = done.stdout.splitlines()[-2:]
    found = re.search(r" WARNING apid\.log pid=1 (\d+) lines of the log were lost here: nobody read it$", first)
    assert found, first
    assert 80 < int(found[1]) < 100
    assert last.endswith("again")
