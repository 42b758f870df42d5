"""Packets of a channel: an empty one is not the end, and the end loses no packet."""

from __future__ import annotations

import array
import os
import socket

import pytest

from apid.channel import MAX_MESSAGE
from apid.parent.loop import receive
from tests.support.processes import descriptors


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_an_empty_packet_is_not_the_end(ends):
    ours, theirs = ends
    assert receive(ours) is None
    theirs.send(b"")
    theirs.send(b"x")
    assert [receive(ours), receive(ours), receive(ours)] == [b"", b"x", None]


@pytest.mark.parametrize("end", ["close", "shutdown"])
def test_the_end(ends, end):
    ours, theirs = ends
    theirs.send(b"x")
    if end == "close":
        theirs.close()
    else:
        theirs.shutdown(socket.SHUT_WR)
    assert receive(ours) == b"x"
    for _ in range(2):
        with pytest.raises(EOFError):
            receive(ours)


def test_last_words_of_one_that_has_left_packets_unread(ends):
    ours, theirs = ends
    ours.send(b"an order")
    theirs.send(b"last words")
    theirs.close()
    assert receive(ours) == b"last words"
    with pytest.raises(EOFError):
        receive(ours)


def test_a_packet_that_is_too_long_is_seen_to_be(ends):
    ours, theirs = ends
    theirs.send(b"x" * (MAX_MESSAGE + 100))
    assert len(receive(ours)) == MAX_MESSAGE + 1


def test_descriptors_that_come_with_a_packet_are_closed(ends):
    ours, theirs = ends
    null = os.open(os.devnull, os.O_RDONLY)
    before = descriptors()
    for _ in range(10):
        theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null] * 100))])
        assert receive(ours) == b"x"
    assert descriptors().keys() == before.keys()
    os.close(null)
