from __future__ import annotations

import contextlib

import pytest

from apid.posix.appender import Appender


@pytest.fixture
def opened():
    """A function that makes an Appender, which is closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(contextlib.closing(Appender(*args, **options)))
