from __future__ import annotations

import logging

import pytest

from apid import log
from apid.loggers import HIERARCHY


@pytest.fixture
def leave_logging_as_it_was():
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    log.set_request_id_source(None)
    for daemon_logger in HIERARCHY.loggers():
        daemon_logger.handlers.clear()
        daemon_logger.setLevel(logging.NOTSET)
    HIERARCHY.installed = []
    HIERARCHY.root.setLevel(logging.INFO)
    for handler in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        if handler not in root.handlers:
            root.addHandler(handler)
    root.setLevel(level)
