"""The log as a journal gets it: datagrams at a socket that stands for journald's."""

from __future__ import annotations

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
