"""engine = threads where no more threads can be started: requests share those that there are, and none is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import pytest

from tests.support import unprivileged
from tests.support.apps import pipeline
from tests.support.client import Connection, request_bytes
from tests.support.daemon import PROGRAM

AT_REST = 6
"""Threads of a worker that does nothing."""


@pytest.fixture
def tmp_path():
    """Where the fixture `daemon` puts its files."""
    yield from unprivileged.open_directory()


def become():
    """The beginning of a command that becomes a user whom nothing else in this container has."""
    uid = 200_000 + os.getpid()
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


@pytest.fixture
def limited(daemon):
    """A function that makes a daemon of that user, who may have `most` threads and processes (RLIMIT_NPROC)."""

    def make(most, **options):
        program = [*unprivileged.prefix(), *become(), "prlimit", f"--nproc={most}", str(PROGRAM)]
        one = daemon(engine="threads", paste=pipeline("slow", seconds=0.3), program=program, **options)
        os.chown(one.directory, 200_000 + os.getpid(), 200_000 + os.getpid())
        one.allow("no thread can be started")
        return one

    return make


def test_requests_share_what_there_is_and_a_drain_loses_none(limited):
    one = limited(2 + 2 * AT_REST + 2, workers=2, pool_size=8).start()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(one.address)) for _ in range(12)]
        for connection in connections:
            connection.send(request_bytes())
        one.wait_for_log("no thread can be started: can't start new thread; requests share")
        one.signal(signal.SIGTERM)
        assert [connection.answer().status for connection in connections] == [200] * 12
    assert one.wait() == 0
    assert "Traceback" not in one.log()


def test_a_worker_that_is_due_for_recycling_asks_for_it(limited):
    one = limited(2 + AT_REST + 3, workers=1, pool_size=3, max_requests=3).start()
    one.allow("cannot fork a worker")
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(one.address)) for _ in range(3)]
        for connection in connections * 2:
            connection.send(request_bytes(path="/?s=1"))
        one.wait_for_log("cannot fork a worker: Resource temporarily unavailable")
        assert [connection.answer().status for connection in connections * 2] == [200] * 6
    assert one.stop() == 0
    assert "Traceback" not in one.log()


@pytest.mark.slow
def test_slots_that_are_always_taken_are_no_stall_while_requests_end(limited):
    """With no thread to spare the loop turns between two requests only, and beats for what has ended by then."""
    one = limited(2 + AT_REST + 3, workers=1, pool_size=3, worker_timeout=3).start()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(one.address)) for _ in range(3)]
        for number, connection in enumerate(connections * 4):
            connection.send(request_bytes(path=f"/?s={0.8 + number / 30:.2f}"))
        assert [connection.answer().status for connection in connections * 4] == [200] * 12
    assert one.stop() == 0
    assert "stalled" not in one.log()


def test_threads_that_cannot_be_started_at_the_start_are_no_fault_of_ours(limited):
    one = limited(9, workers=0, pool_size=1, control_socket=None)
    one.allow(".")
    others = [subprocess.Popen([*become(), "sleep", "60"]) for _ in range(6)]
    try:
        assert one.launch().wait() == 4
        assert "RuntimeError: can't start new thread" in one.log()
    finally:
        for other in others:
            other.kill()
            other.wait()
