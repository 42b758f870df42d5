"""Appending to the standard error: of another program's pipe, of a socket, closed, or without a reader."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest

LINE = b"x" * 99 + b"\n"


def notice(lost: int, reason: str) -> bytes:
    return f"{lost} lost: {reason}\n".encode()


@contextlib.contextmanager
def standard_error(fd: int):
    """Let the standard error be another descriptor."""
    before = os.dup(2)
    os.dup2(fd, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@pytest.mark.parametrize("refused", [False, True], ids=["opened again", "shared"])
def test_a_standard_error_that_nobody_reads_stays_blocking_and_does_not_block(opened, monkeypatch, refused):
    """Its open file description is shared with other programs, which would find it non-blocking."""
    if refused:  # as for another user's pipe
        real = os.open
        monkeypatch.setattr(os, "open", lambda name, *more: real("/none" if "/fd/" in name else name, *more))
    reading, writing = os.pipe()
    with standard_error(writing):
        out = opened(2)
    monkeypatch.undo()
    lost = sum(out.append([LINE]) for _ in range(2000))
    assert os.get_blocking(writing)
    assert os.read(reading, 1 << 20) == LINE * (2000 - lost)
    assert out.append([LINE], notice) == 0
    assert os.read(reading, 1 << 20) == b"%d lost: nobody read it\n" % lost + LINE
    out.close()
    os.close(reading)
    os.close(writing)


def test_a_standard_error_that_is_a_socket_does_not_block_either(opened):
    """As systemd gives it to a service."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with standard_error(theirs.fileno()):
            out = opened(2)
        lost = sum(out.append([LINE]) for _ in range(10000))
        assert lost > 0
        assert theirs.getblocking()
        received = b""
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                received += ours.recv(1 << 20)
        assert received == LINE * (10000 - lost)


def test_a_standard_error_that_is_closed_takes_nothing_and_is_no_error(opened):
    before = os.dup(2)
    os.close(2)
    try:
        out = opened(2)
        assert out.append([LINE]) == 1
    finally:
        os.dup2(before, 2)
        os.close(before)
    assert out.reason == "Bad file descriptor"


def test_a_pipe_whose_reader_has_gone(opened):
    reading, writing = os.pipe()
    with standard_error(writing):
        out = opened(2)
    os.close(reading)
    os.close(writing)
    assert out.append([LINE]) == 1
    assert out.reason == "Broken pipe"
