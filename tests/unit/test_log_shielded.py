"""What an application does to logging: the daemon's own records reach its log all the same, each once."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

ROOT = ', "root": {"handlers": ["null"], "level": "CRITICAL"}'
DJANGO = '{"version": 1, "disable_existing_loggers": %s, "handlers": {"null": {"class": "logging.NullHandler"}}%s}'

MUTING = {
    "disable": "logging.disable(logging.CRITICAL)",
    "manager.disable": "logging.Logger.manager.disable = 1000",
    "dictConfig without a root": f"logging.config.dictConfig({DJANGO % ('False', '')})",
    "dictConfig that disables": f"logging.config.dictConfig({DJANGO % ('True', '')})",
    "dictConfig with a root": f"logging.config.dictConfig({DJANGO % ('True', ROOT)})",
    "no handlers": "logging.root.handlers.clear()",
    "shutdown": "logging.shutdown()",
    "basicConfig": "logging.basicConfig(force=True, level=logging.CRITICAL, handlers=[logging.NullHandler()])",
    "a class of loggers": "logging.setLoggerClass(type('L', (logging.Logger,), {'handle': None}))",
    "a factory that raises": "logging.setLogRecordFactory(lambda *a, **k: 1 / 0)",
    "a factory that adds": "f = logging.getLogRecordFactory()\n"
    "logging.setLogRecordFactory(lambda *a, **k: vars(r := f(*a, **k)).update(identity=object(), request_id=5, block=b'') or r)",
    "raiseExceptions": "logging.raiseExceptions = False",
    "no stderr": "import sys; sys.stderr = sys.__stderr__ = None",
    "a closed stderr": "import sys; sys.stderr.close()",
    "levels": "logging.root.setLevel(1000); logging.getLogger('apid').setLevel(1000)\n"
    "[h.setLevel(1000) for h in logging.root.handlers]",
    "a formatter that raises": "[h.setFormatter(logging.Formatter('%(nothing)s')) for h in logging.root.handlers]",
    "a filter": "[h.addFilter(lambda record: False) for h in logging.root.handlers]",
    "a handler that raises": "logging.root.addHandler(type('H', (logging.Handler,), {'handle': lambda s, r: 1 / 0})())",
    "warnings": "import warnings; warnings.simplefilter('error'); logging.captureWarnings(True)",
    "level names": "logging.addLevelName(logging.ERROR, 'E\\n')",
}


def run(code: str, *arguments: str) -> str:
    """Run Python; returns what it wrote on the standard error."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("target", ["file", "append", "stderr"])
def test_the_daemons_records_reach_its_log(tmp_path, target):
    path, config = tmp_path / "apid.log", tmp_path / "logging.conf"
    config.write_text(
        "[loggers]\nkeys = root, apid\n[handlers]\nkeys = file, null\n[formatters]\nkeys = short\n"
        "[logger_root]\nlevel = WARNING\nhandlers = null\n"
        "[logger_apid]\nlevel = WARNING\nhandlers = file\nqualname = apid\n"
        "[handler_null]\nclass = NullHandler\nargs = ()\n"
        f"[handler_file]\nclass = FileHandler\nargs = ({str(path)!r},)\nformatter = short\n"
        "[formatter_short]\nformat = %(identity)s %(message)s\n"
    )
    append = {"log_config_append": str(config), "log_config": config.read_text()}
    settings = {"file": {"log_file": str(path)}, "append": append, "stderr": {}}[target]
    kinds = dict(MUTING)
    code = f"""
import json, logging, logging.config, os, sys
from apid import log
from apid.conf.settings import Log
from apid.loggers import logger
LOG = logger("apid.server.request_handler")
for name, kind in json.loads(sys.argv[1]).items():
    pid = os.fork()
    if pid == 0:
        log.setup(Log(**{settings!r}), identity="pid=1")
        exec(kind)
        LOG.error("first of %s", name)
        log.reopen()
        try:
            1 / 0
        except ZeroDivisionError:
            LOG.exception("second of %s", name)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, name
"""
    errors = run(code, json.dumps(kinds))
    text = errors if target == "stderr" else path.read_text()
    for name in kinds:
        assert text.count(f"pid=1 first of {name}\n") == 1, (name, text)
        assert text.count(f"pid=1 second of {name}\n") == 1, (name, text)
    assert text.count("ZeroDivisionError: division by zero\n") == len(kinds)
    if target != "stderr":
        assert "Logging error" not in errors


def test_what_the_application_logs_is_its_own_decision(tmp_path):
    path = tmp_path / "apid.log"
    code = f"""
import logging, logging.config
from apid import log
from apid.conf.settings import Log
log.setup(Log(log_file={str(path)!r}), identity="pid=1")
LOG = logging.getLogger("app")
LOG.info("one")
logging.config.dictConfig({DJANGO % ("False", "")})
LOG.info("two: closed, and still attached")
logging.shutdown()
LOG.info("three")
logging.disable(logging.CRITICAL)
LOG.critical("four")
logging.disable(logging.NOTSET)
logging.root.handlers.clear()
LOG.info("five")
"""
    run(code)
    assert [line.split("pid=1 ")[1] for line in path.read_text().splitlines()] == [
        "one",
        "two: closed, and still attached",
        "three",
    ]


def test_the_daemons_records_are_not_doubled_by_handlers_of_the_application(tmp_path):
    code = f"""
import logging
from apid import log
from apid.conf.settings import Log
from apid.loggers import logger
log.setup(Log(log_file={str(tmp_path / "apid.log")!r}), identity="pid=1")
logging.root.addHandler(logging.StreamHandler())
logger("apid.parent").warning("the daemon's")
logging.getLogger("app").warning("the application's")
"""
    assert run(code) == "the application's\n"
    assert re.findall("the .*'s", (tmp_path / "apid.log").read_text()) == ["the daemon's", "the application's"]


def test_client_data_in_the_daemons_records_begins_no_line_in_the_operators_formats(tmp_path):
    path, config = tmp_path / "apid.log", tmp_path / "logging.conf"
    config.write_text(
        "[loggers]\nkeys = root\n[handlers]\nkeys = file\n[formatters]\nkeys =\n"
        "[logger_root]\nlevel = INFO\nhandlers = file\n"
        f"[handler_file]\nclass = FileHandler\nargs = ({str(path)!r},)\n"
    )
    code = f"""
from apid import log
from apid.conf.settings import Log
from apid.loggers import logger
log.setup(Log(log_config_append={str(config)!r}, log_config=open({str(config)!r}).read()), identity="pid=1")
logger("apid.server.context").info("refused %s", "/\\r\\nforged \\x1b[31m")
"""
    run(code)
    assert path.read_text() == "refused /\\r\\nforged \\x1b[31m\n"


def test_a_record_that_cannot_be_formatted_is_named(tmp_path):
    path = tmp_path / "apid.log"
    code = f"""
import logging
from apid import log
from apid.conf.settings import Log
class Bad:
    def __str__(self): raise ValueError("bad")
    __repr__ = __str__
log.setup(Log(log_file={str(path)!r}), identity="pid=1")
for message, *args in (("number %d", "x"), (Bad(),), ("%s", Bad())):
    logging.getLogger("app").info(message, *args)
logging.getLogger("app").info("fine", extra={{"identity": 5, "request_id": Bad, "block": 7}})
"""
    assert run(code) == ""
    text = path.read_text()
    assert text.count(" ERROR app pid=1 a line of the log cannot be formatted: ") == 3
    assert "cannot be formatted: 'number %d'\n" in text
    assert "  ValueError: bad\n" in text
    assert " INFO app 5 " in text
    assert text.endswith(" fine\n  7\n")
