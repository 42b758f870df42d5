"""The memory into which a worker writes its stacks: whatever is written there, the parent reads a bounded text."""

from __future__ import annotations

import fcntl
import os

import pytest

from apid.parent.program import OUTPUT, Trial
from apid.parent.stacks import ROOM, Stacks
from apid.posix import memfd


@pytest.fixture
def stacks():
    """Of one worker, pid 1, with the descriptor that the worker has."""
    made = Stacks()
    made.add(1, Stacks.new())
    made.ask(1)
    fd = os.dup(made.items()[1])
    yield made, fd
    os.close(fd)
    made.remove(1)


def test_what_was_written_since_it_was_asked(stacks):
    made, fd = stacks
    assert made.take(1) == ""
    os.write(fd, b"one")
    os.write(fd, b" two")
    assert made.take(1) == made.take(1) == "one two"
    made.ask(1)
    assert made.take(1) == ""
    os.write(fd, b"3")
    assert made.take(1) == "3"


def test_a_worker_that_writes_without_end(stacks):
    made, fd = stacks
    while os.lseek(fd, 0, os.SEEK_CUR) < ROOM:
        os.write(fd, b"\xff" * 4096)
    with pytest.raises(PermissionError):
        os.write(fd, b"\xff" * 4096)
    assert len(made.take(1)) <= ROOM
    assert os.fstat(fd).st_size == ROOM
    made.ask(1)
    os.write(fd, b"again")
    assert made.take(1) == "again"


@pytest.mark.parametrize("offset", [2**62, ROOM * 2])
def test_a_worker_that_moves_the_offset(stacks, offset):
    made, fd = stacks
    os.lseek(fd, offset, os.SEEK_SET)
    assert len(made.take(1)) == ROOM
    made.ask(1)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    with pytest.raises(PermissionError):
        os.write(fd, b"at the end")
    assert made.take(1) == ""


@pytest.mark.parametrize("size", [ROOM, OUTPUT])
def test_its_size_stays(size):
    fd = memfd.create("apid-test", size)
    try:
        for wrong in (0, size - 1, size + 1, 2**40):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, wrong)
        memfd.check(fd, size)
        with pytest.raises(ValueError, match="no sealed memory"):
            memfd.check(fd, size + 1)
    finally:
        os.close(fd)


@pytest.mark.parametrize("filled", [0, OUTPUT - 10])
def test_what_a_tried_program_has_written_is_bounded_and_controls_no_terminal(filled):
    fd = memfd.create("apid-test", OUTPUT)
    os.lseek(fd, filled, os.SEEK_SET)
    os.write(fd, b"a\x1b[2J\nb\xff\r"[: OUTPUT - filled])
    found = Trial(1, fd).output()
    assert len(found) <= 4 * 16384
    assert found.endswith("a\\x1b[2J\nb\ufffd\\r")
    assert "\x1b" not in found
