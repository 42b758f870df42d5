"""The bulletin: whole editions, whatever the writer is doing."""

import os
import signal

import pytest

from apid.bulletin import Bulletin
from apid.scoreboard import Scoreboard


def test_nothing_published_is_an_empty_document(board):
    assert Bulletin(board.bulletin).read() == {}


def test_what_is_published_is_read_by_another_mapping(board):
    writer = Bulletin(board.bulletin)
    for number in range(5):
        writer.publish({"number": number, "text": "é" * number})
        again = Scoreboard.attach(*map(os.dup, board.fds))
        assert Bulletin(again.bulletin).read() == {"number": number, "text": "é" * number}
        for fd in again.fds:
            os.close(fd)


def test_the_same_document_is_not_written_again(board):
    writer = Bulletin(board.bulletin)
    writer.publish({"a": 1})
    edition = bytes(board.bulletin[:8])
    writer.publish({"a": 1})
    assert bytes(board.bulletin[:8]) == edition


def test_a_writer_of_a_new_program_goes_on_with_the_editions(board):
    Bulletin(board.bulletin).publish({"a": 1})
    Bulletin(board.bulletin).publish({"a": 2})
    assert Bulletin(board.bulletin).read() == {"a": 2}


def test_a_document_that_does_not_fit_leaves_the_last_one(board):
    writer = Bulletin(board.bulletin)
    writer.publish({"a": 1})
    with pytest.raises(ValueError, match="does not fit"):
        writer.publish({"a": "x" * len(board.bulletin)})
    assert writer.read() == {"a": 1}


def test_a_reader_never_sees_half_an_edition(board):
    """A process publishes as fast as it can, documents of very different lengths, and is killed in the middle of it."""
    pid = os.fork()
    if pid == 0:
        writer, number = Bulletin(board.bulletin), 0
        while True:
            number += 1
            writer.publish({"number": number, "text": str(number % 10) * (number * 7919 % 50_000)})
    try:
        reader, last = Bulletin(board.bulletin), 0
        while last < 300:
            found = reader.read()
            if found:
                assert found["text"] == str(found["number"] % 10) * (found["number"] * 7919 % 50_000)
                assert found["number"] >= last
                last = found["number"]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert reader.read()["number"] >= last
