"""The start of the daemon, where it fails."""

from __future__ import annotations

import pytest

from apid.cli import serve
from apid.errors import ApidError
from apid.parent import program
from apid.posix import processes, signals


def test_workers_that_cannot_be_found_do_not_hide_why_they_are_to_drain(monkeypatch):
    """Not every kernel lists children (proc(5)), and /proc may not be mounted."""

    def absent(_):
        raise FileNotFoundError(2, "No such file or directory", "/proc/1/task/1/children")

    monkeypatch.setenv(program.STATE_FD, "999999")
    monkeypatch.setattr(signals, "unblock_all", lambda: None)
    monkeypatch.setattr(processes, "let_children_drain", absent)
    with pytest.raises(ApidError, match="cannot be taken over"):
        serve.serve([])
