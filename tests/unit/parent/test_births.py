"""Workers that a mold forks: who is one is decided by the kernel, and nothing of an order that fails is left."""

from __future__ import annotations

import os
import re
import socket

import pytest

from apid import channel
from apid.parent import events
from apid.parent.births import Births
from apid.posix import rights
from apid.scoreboard import PID
from tests.support import processes

MOLD = 4242


class Listening:
    """Stands for the listeners: one socket many times."""

    def __init__(self, number: int) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.number = number

    def of(self, _keys):
        return [self.sock] * self.number


@pytest.fixture
def listening():
    made = Listening(2)
    yield made
    made.sock.close()


@pytest.fixture
def mold(board, listening):
    """(births, the mold's end of its channel)."""
    births = Births(board, listening)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    births.channels[MOLD] = ours
    yield births, theirs
    births.end()
    for pid in list(births.channels):
        births.forget(pid)
    theirs.close()


def ordered(births, theirs):
    """Order a worker; returns what the mold gets: the message and the descriptors."""
    births.order(MOLD, (3, 7, 5), {"main": {"tcp:1": "127.0.0.1:1"}})
    packet, descriptors = rights.receive(theirs, channel.MAX_MESSAGE)
    order = channel.decode(packet, channel.Sender.PARENT)
    rights.receive_more(theirs, descriptors, 3 + sum(order.listeners.values()))
    return order, descriptors


def speak(descriptors, packet: bytes) -> None:
    with socket.socket(fileno=descriptors[0]) as sock:
        sock.send(packet)
    for fd in descriptors[1:]:
        os.close(fd)


def heard(births):
    (birth,) = births.unborn
    return births.hear(birth, ())


def test_a_child_of_this_process_is_born(mold, board):
    births, theirs = mold
    order, descriptors = ordered(births, theirs)
    assert order == channel.Fork(3, 5, {"main": 2})
    assert not any(os.get_inheritable(fd) for fd in descriptors)
    assert heard(births) is None
    pid = os.fork()
    if pid == 0:
        speak(descriptors, channel.encode(channel.Born()))
        os._exit(0)
    for fd in descriptors:
        os.close(fd)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    event = heard(births)
    os.waitpid(pid, 0)
    assert isinstance(event, events.Spawned)
    assert (event.pid, event.slot, event.generation, event.row, event.mold) == (pid, 3, 7, 5, MOLD)
    assert board.row(5).seat[PID] == pid
    assert births.rows == {pid: 5}
    assert births.unborn == []


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (channel.encode(channel.Born()), "is no new child of this process"),
        (channel.encode(channel.NotBorn("Cannot allocate memory")), "Cannot allocate memory"),
        (channel.encode(channel.Ready()), "not a message"),
        (b"[[[", "not a message"),
        (b"", "it ended before it could say who it is"),
    ],
    ids=["no child", "not born", "another message", "garbage", "nothing"],
)
def test_anything_else_is_no_birth(mold, packet, reason):
    births, theirs = mold
    _, descriptors = ordered(births, theirs)
    if packet == channel.encode(channel.Born()):
        pid = os.fork()  # a grandchild speaks, which this process has not adopted
        if pid == 0:
            if os.fork() == 0:
                speak(descriptors, packet)
                os._exit(0)
            os.wait()
            os._exit(0)
        os.waitpid(pid, 0)
        for fd in descriptors:
            os.close(fd)
    else:
        speak(descriptors, packet)
    event = heard(births)
    assert isinstance(event, events.SpawnFailed)
    assert event.mold == MOLD
    assert re.search(reason, event.reason)
    assert births.unborn == []
    assert births.rows == {}


def test_more_listeners_than_one_message_carries(board):
    listening = Listening(600)
    births = Births(board, listening)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    births.channels[MOLD] = ours
    order, descriptors = ordered(births, theirs)
    assert order.listeners == {"main": 600}
    assert len(descriptors) == 603
    for fd in descriptors:
        os.close(fd)
    births.end()
    births.forget(MOLD)
    theirs.close()
    listening.sock.close()


def test_a_mold_that_is_gone_takes_no_order_and_nothing_is_left(mold):
    births, theirs = mold
    theirs.close()
    before = len(processes.descriptors())
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        births.order(MOLD, (0, 1, 0), {"main": {}})
    assert len(processes.descriptors()) == before
    assert births.unborn == []


def test_a_row_that_is_promised_is_not_free(mold):
    births, theirs = mold
    births.rows = {1: 0, 2: 1}
    births.order(MOLD, (0, 1, 2), {})
    assert births.free_row() == 3
    _, descriptors = rights.receive(theirs, channel.MAX_MESSAGE)
    for fd in descriptors:
        os.close(fd)
