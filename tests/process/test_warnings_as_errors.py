"""PYTHONWARNINGS=error is for the application's code: what apid and its libraries warn of ends nothing."""

from __future__ import annotations

import pytest

from tests.support.apps import pipeline
from tests.support.client import get

STRICT = {"PYTHONWARNINGS": "error"}


def test_a_daemon_serves_and_changes_under_warnings_as_errors(daemon):
    one = daemon(paste=pipeline("hello"), workers=1, environment=STRICT).start()
    for command in ("reload", "upgrade", "dump", "status"):
        assert one.ask(command)["ok"]
    assert get(one.address).status == 200
    assert one.stop() == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_warning_of_the_application_is_its_error(daemon, workers):
    one = daemon(paste="[app:main]\npaste.app_factory = warns:factory\n", workers=workers, environment=STRICT)
    (one.directory / "warns.py").write_text("import warnings\nwarnings.warn('too old', DeprecationWarning)\n")
    one.launch()
    assert one.wait() == 2
    assert "DeprecationWarning: too old" in one.log()
    one.allow("Traceback", "CRITICAL", "ERROR")
