"""The log as a journal gets it: datagrams at a socket that stands for journald's."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct

import pytest

from apid import log
from apid.conf.settings import Log
from apid.posix.journal import Journal, encode

LOG = logging.getLogger("apid.parent")

pytestmark = pytest.mark.usefixtures("leave_logging_as_it_was")


@pytest.fixture
def journal(tmp_path, monkeypatch):
    path = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(5)
        monkeypatch.setattr("apid.posix.journal.Journal.__init__.__defaults__", (str(path),))
        yield listener


def test_journal_fields(journal):
    log.setup(Log(use_journal=True), identity=log.identity(2, 7, 4711))
    LOG.error("gone\nwrong", extra={"block": "a\nb"})
    data = journal.recv(65536)
    message = b"gone\\nwrong\na\nb"
    assert data.startswith(
        b"MESSAGE\n" + struct.pack("<Q", len(message)) + message + b"\nPRIORITY=3\nSYSLOG_IDENTIFIER=apid\n"
    )
    assert b"\nLOGGER=apid.parent\n" in data
    assert data.endswith(b"APID_WORKER=2\nAPID_GEN=7\nAPID_PID=4711\n")


def test_a_large_entry_goes_as_a_sealed_file(journal):
    log.setup(Log(use_journal=True), identity="pid=1")
    LOG.error("%s", "x" * 3_000_000)
    data, descriptors, _, _ = socket.recv_fds(journal, 16, 1)
    assert data == b""
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)
        assert file.read(20) == b"MESSAGE=" + b"x" * 12
        with pytest.raises(PermissionError):
            os.ftruncate(file.fileno(), 0)


def test_without_a_journal_the_error_says_so(tmp_path):
    with pytest.raises(OSError, match="No such file") as caught:
        Journal(str(tmp_path / "none"))
    assert caught.value.filename == str(tmp_path / "none")


def test_a_journal_that_goes_away_costs_no_line(journal, tmp_path, capfd):
    log.setup(Log(use_journal=True), identity="pid=1")
    journal.close()
    (tmp_path / "journal").unlink()
    LOG.error("lost?")
    assert "the journal takes no lines" in (text := capfd.readouterr().err)
    assert "lost?" in text
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(str(tmp_path / "journal"))
        again.settimeout(5)
        LOG.error("back")
        assert again.recv(4096).startswith(b"MESSAGE=back\n")


def test_encode():
    assert encode({"A": "b", "C": ""}) == b"A=b\nC=\n"


def test_a_journal_that_has_stopped_does_not_stop_who_logs(journal, capfd):
    """Its queue (net.unix.max_dgram_qlen) is full; lines go to the standard error, and it is told how many when it is back."""
    log.setup(Log(use_journal=True), identity="pid=1")
    for number in range(1000):
        LOG.error("line %d", number)
    missed = capfd.readouterr().err.count("the journal takes no lines")
    journal.settimeout(0)
    messages = []
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(journal.recv(65536).split(b"\n")[0])
    assert missed > 0
    assert messages == [b"MESSAGE=line %d" % number for number in range(1000 - missed)]
    LOG.error("back")
    assert journal.recv(4096).startswith(b"MESSAGE=back\n")
    assert journal.recv(4096).startswith(b"MESSAGE=%d lines did not reach the journal" % missed)


def test_a_worker_boots_while_the_journal_restarts(journal, tmp_path, capfd):
    log.setup(Log(use_journal=True), identity="pid=1")  # the parent's, which the worker inherits
    journal.close()
    (tmp_path / "journal").unlink()
    log.setup(Log(use_journal=True), identity=log.identity(0, 1, 2))
    LOG.error("ready")
    assert "ready" in capfd.readouterr().err


def test_a_default_timeout_of_the_application_does_not_reach_the_journal(journal):
    socket.setdefaulttimeout(0.001)
    try:
        log.setup(Log(use_journal=True), identity="pid=1")
        LOG.error("line")
    finally:
        socket.setdefaulttimeout(None)
    assert journal.recv(4096).startswith(b"MESSAGE=line\n")


def test_control_characters_of_a_block_are_escaped(journal):
    log.setup(Log(use_journal=True), identity="pid=1")
    LOG.error("a", extra={"block": "b\x1b[31m\n\nc\x00"})
    assert b"a\nb\\x1b[31m\nc\\x00" in journal.recv(65536)
