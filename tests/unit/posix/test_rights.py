"""Descriptors over a socket: all of them arrive, or an error says why; none is left open."""

from __future__ import annotations

import errno
import os
import pathlib
import resource
import socket

import pytest

from apid.posix import rights


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def descriptors() -> int:
    return sum(1 for _ in pathlib.Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("number", [0, 1, rights.AT_ONCE, rights.AT_ONCE + 1, 3 * rights.AT_ONCE])
def test_any_number_arrives(pair, number):
    ours, theirs = pair
    with open(os.devnull, "rb") as null:
        rights.send(ours, b"order", [null.fileno()] * number)
        packet, found = rights.receive(theirs, 100)
        rights.receive_more(theirs, found, number)
        assert (packet, len(found)) == (b"order", number)
        assert {os.fstat(fd).st_rdev for fd in found} <= {os.fstat(null.fileno()).st_rdev}
    for fd in found:
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_descriptors_that_do_not_fit_are_an_error_and_none_stays_open(pair):
    ours, theirs = pair
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull, "rb") as null:
        rights.send(ours, b"order", [null.fileno()] * 100)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + 50, hard))
        try:
            with pytest.raises(OSError, match="Too many open files") as caught:
                rights.receive(theirs, 100)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
    assert descriptors() == before


@pytest.mark.parametrize("number", [1, 3])
def test_another_number_than_was_said_is_an_error(pair, number):
    ours, theirs = pair
    with open(os.devnull, "rb") as null:
        rights.send(ours, b"order", [null.fileno()] * 2)
    _, found = rights.receive(theirs, 100)
    ours.send(b"something else")
    try:
        with pytest.raises(ValueError, match=r"2 (instead )?of \d descriptors have come"):
            rights.receive_more(theirs, found, number)
    finally:
        for fd in found:
            os.close(fd)
