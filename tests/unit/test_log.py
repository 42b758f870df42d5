"""The daemon's log, as bytes in a file, a pipe or a journal's socket."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import posix
import re
import subprocess
import sys
from pathlib import Path

import pytest

from apid import log
from apid.conf.identity import User
from apid.conf.settings import Log
from apid.errors import ConfigError
from tests.support import unprivileged
from tests.support.processes import descriptors

LOG = logging.getLogger("apid.parent")

pytestmark = pytest.mark.usefixtures("leave_logging_as_it_was")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "apid.log"


def setup(path: Path, identity: str = "pid=4700", **options) -> None:
    log.setup(Log(log_file=str(path), **options), identity=identity)


def test_a_line(path):
    setup(path, identity=log.identity(2, 7, 4711))
    LOG.info("listening on %s", "127.0.0.1:8080")
    line = path.read_text()
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO apid\.parent worker=2 gen=7 pid=4711 listening on 127\.0\.0\.1:8080\n"
    assert re.fullmatch(pattern, line)


def test_a_line_about_a_worker_carries_its_triple_not_the_parents(path):
    setup(path)
    LOG.info("ready", extra=log.about(2, 7, 4711))
    LOG.info("stopping")
    first, second = path.read_text().splitlines()
    assert first.endswith("apid.parent worker=2 gen=7 pid=4711 ready")
    assert second.endswith("apid.parent pid=4700 stopping")


def test_a_client_can_neither_begin_a_line_nor_colour_a_terminal(path):
    setup(path)
    LOG.warning("bad target %s", "/a\r\n2026-01-01 INFO forged\x1b[31m\x00\x85\u2028x")
    text = path.read_text()
    assert text.count("\n") == 1
    assert "/a\\r\\n2026-01-01 INFO forged\\x1b[31m\\x00\\x85\\u2028x" in text


def test_a_name_that_is_no_unicode_is_logged_all_the_same(path):
    setup(path)
    LOG.warning("%s", os.fsdecode(b"/\xff"))
    assert path.read_text().endswith("/\\udcff\n")


def test_a_traceback_is_one_indented_block(path):
    setup(path)
    try:
        raise ValueError("first\n2026-01-01 INFO forged")
    except ValueError:
        LOG.exception("it failed")
    first, *rest = path.read_text().splitlines()
    assert first.endswith("it failed")
    assert rest[0] == "  Traceback (most recent call last):"
    assert rest[-1] == "  2026-01-01 INFO forged"
    assert all(line.startswith("  ") for line in rest)


def test_a_block_follows_its_line(path):
    setup(path)
    LOG.error("hung", extra={**log.about(0, 1, 2), "block": 'File "a", line 1\n  in f\n'})
    assert path.read_text().splitlines()[1:] == ['  File "a", line 1', "    in f"]


def test_one_record_is_one_write(path, monkeypatch):
    setup(path)
    writes = []
    real = posix.write
    monkeypatch.setattr(posix, "write", lambda fd, data: writes.append(data) or real(fd, data))
    LOG.error("%s", "x" * 100_000, extra={"block": "a\nb"})
    monkeypatch.undo()
    assert len(writes) == 1


def test_levels(path):
    setup(path)
    LOG.debug("hidden")
    setup(path, debug=True)
    LOG.debug("shown")
    assert "hidden" not in path.read_text()
    assert "DEBUG apid.parent pid=4700 shown" in path.read_text()


def test_a_second_setup_replaces_the_first_and_closes_its_file(path, tmp_path):
    def open_ones():
        return [name for name in descriptors().values() if name.startswith(str(tmp_path))]

    setup(path)
    assert open_ones() == [str(path)]
    setup(tmp_path / "other.log", identity="worker=0 gen=1 pid=9")
    assert open_ones() == [str(tmp_path / "other.log")]
    LOG.info("there")
    assert path.read_text() == ""
    assert (tmp_path / "other.log").read_text().endswith("worker=0 gen=1 pid=9 there\n")


def test_the_request_id_comes_from_whoever_registered(path):
    setup(path)
    log.set_request_id_source(lambda: "req-1")
    LOG.info("in")
    log.set_request_id_source(lambda: None)
    LOG.info("out")
    first, second = path.read_text().splitlines()
    assert first.endswith("pid=4700 [req-1] in")
    assert second.endswith("pid=4700 out")


def test_json(path):
    setup(path, identity=log.identity(2, 7, 4711), use_json=True)
    log.set_request_id_source(lambda: "req-1")
    try:
        raise ValueError("no\nway")
    except ValueError:
        LOG.exception("a %s", "b\nc")
    (line,) = path.read_text().splitlines()
    entry = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert "ValueError: no\nway" in entry.pop("block")
    assert entry == {
        "level": "ERROR",
        "logger": "apid.parent",
        "worker": 2,
        "gen": 7,
        "pid": 4711,
        "request_id": "req-1",
        "message": "a b\nc",
    }


def test_json_has_no_lone_surrogates(path):
    """No parser need accept them (RFC 8259 §8.2)."""
    setup(path, use_json=True)
    LOG.error("bad \udcff", extra={"request_id": "\ud800", "block": "\udfff\u2028"})
    line = path.read_text()
    assert "\\ud800" not in line.replace("\\\\ud800", "")
    entry = json.loads(line)
    assert (entry["message"], entry["request_id"]) == ("bad \\udcff", "\\ud800")
    assert entry["block"].startswith("\\udfff")
    entry["block"].encode()


def test_what_turns_the_direction_of_writing_is_escaped(path):
    setup(path)
    LOG.error("a\u202eb\u2066c\u2029d")
    assert path.read_text().endswith("a\\u202eb\\u2066c\\u2029d\n")


def test_stderr_is_the_default():
    code = (
        "import logging; from apid import log; from apid.conf.settings import Log\n"
        "log.setup(Log(), identity='pid=1'); logging.getLogger('apid.x').info('hello')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.endswith(" INFO apid.x pid=1 hello\n")
    assert done.stdout == ""


def test_after_monkey_patching_a_worker_sets_up_anew(path):
    code = f"""
import logging, os
from apid import log
from apid.conf.settings import Log
settings = Log(log_file={str(path)!r})
log.setup(settings, identity="pid=1")
logging.getLogger("apid.parent").info("before")
if os.fork() == 0:
    import eventlet
    eventlet.monkey_patch()
    log.setup(settings, identity=log.identity(0, 1, 2))
    pool = eventlet.GreenPool()
    for number in range(50):
        pool.spawn(logging.getLogger("app").info, "line %d", number)
    pool.waitall()
    log.reopen()
    os._exit(0)
assert os.waitpid(-1, 0)[1] == 0
logging.getLogger("apid.parent").info("after")
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    lines = path.read_text().splitlines()
    assert len(lines) == 52
    assert sum("app worker=0 gen=1 pid=2 line" in line for line in lines) == 50


def test_under_eventlet_a_pipe_takes_lines_from_the_hub_and_from_many_green_threads():
    code = """
import logging
import eventlet
eventlet.monkey_patch()
from apid import log
from apid.conf.settings import Log
log.setup(Log(), identity="pid=1")
LOG = logging.getLogger("app")
eventlet.hubs.get_hub().schedule_call_global(0, LOG.info, "from the hub")
pool = eventlet.GreenPool()
for number in range(20):
    pool.spawn(LOG.info, "line %d", number)
pool.waitall()
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("app pid=1 line ") == 20
    assert "app pid=1 from the hub\n" in done.stderr


def write_many(path: str, name: str, count: int) -> None:
    log.setup(Log(log_file=path), identity=name)
    for number in range(count):
        LOG.info("%d %s", number, name * 500)


def test_lines_of_several_processes_never_mix(path):
    context = multiprocessing.get_context("fork")
    names = ["a", "b", "c", "d"]
    processes = [context.Process(target=write_many, args=(str(path), name, 300)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
        process.close()
    lines = path.read_text().splitlines()
    assert len(lines) == 1200
    assert all(re.search(r" (a|b|c|d) \d+ \1{500}$", line) for line in lines)


def test_reopen_loses_no_line_and_leaves_the_old_file(path, tmp_path):
    setup(path)
    LOG.info("one")
    path.rename(tmp_path / "old.log")
    LOG.info("two")
    log.reopen()
    LOG.info("three")
    assert [line.split()[-1] for line in (tmp_path / "old.log").read_text().splitlines()] == ["one", "two"]
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["three"]


def test_reopen_that_fails_keeps_the_old_file(path, tmp_path):
    (tmp_path / "dir").mkdir()
    setup(tmp_path / "dir" / "apid.log")
    (tmp_path / "dir").rename(tmp_path / "moved")
    with pytest.raises(ConfigError) as caught:
        log.reopen()
    assert str(caught.value) == f"the log file {tmp_path}/dir/apid.log cannot be opened: No such file or directory"
    LOG.info("still here")
    assert "still here" in (tmp_path / "moved" / "apid.log").read_text()


@pytest.fixture
def everybodys():
    """A directory that everybody may look into, as those of pytest are not."""
    yield from unprivileged.open_directory()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_worker_without_privileges_opens_the_file_anew(everybodys):
    path = everybodys / "apid.log"
    settings = Log(log_file=str(path))
    log.setup(settings, identity="pid=1", user=User(12345, 54321, None))
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (12345, 54321, 0o640)
    path.rename(everybodys / "old.log")
    log.reopen()
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(12345, 12345, 12345)
            log.reopen()
            LOG.info("from the worker")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert path.read_text().endswith("from the worker\n")
    assert path.stat().st_uid == 12345


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        setup(tmp_path / "none" / "apid.log")
    assert str(caught.value) == f"the log file {tmp_path}/none/apid.log cannot be opened: No such file or directory"


def test_log_config_append(tmp_path):
    target = tmp_path / "custom.log"
    config = tmp_path / "logging.conf"
    config.write_text(
        "[loggers]\nkeys = root\n[handlers]\nkeys = file\n[formatters]\nkeys = short\n"
        "[logger_root]\nlevel = WARNING\nhandlers = file\n"
        f"[handler_file]\nclass = FileHandler\nargs = ({str(target)!r},)\nformatter = short\n"
        "[formatter_short]\nformat = %(identity)s|%(request_id)s|%(message)s\n"
    )
    log.setup(Log(log_config_append=str(config), log_config=config.read_text()), identity="pid=5")
    LOG.warning("one")
    target.rename(tmp_path / "old.log")
    log.reopen()
    LOG.warning("two")
    assert (tmp_path / "old.log").read_text() == "pid=5|None|one\n"
    assert target.read_text() == "pid=5|None|two\n"


@pytest.mark.parametrize(
    ("text", "cause"),
    [("nonsense", "no section headers"), ("[loggers]\nkeys = root\n", "formatters")],
)
def test_a_wrong_log_config_append_is_named(tmp_path, text, cause):
    config = tmp_path / "logging.conf"
    config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        log.setup(Log(log_config_append=str(config), log_config=config.read_text()), identity="pid=5")
    assert str(caught.value).startswith(f"log_config_append: {config}: ")
    assert cause in str(caught.value)
