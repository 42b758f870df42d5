"""H10: no source of events starves another in the parent: control clients, signals, children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.processes import wait_until

STATUS = b'{"v": 1, "command": "status"}\n'


@contextlib.contextmanager
def connections(one, count):
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(one.control))  # blocking: with a timeout it fails when the queue is full
            sock.settimeout(20)
            made.append(sock)
        yield made


def test_h10_idle_connections_keep_nobody_out(daemon):
    one = daemon(paste=pipeline("hello"), workers=1).start()
    with connections(one, 100) as idle:
        assert one.status()["ready"] == 1
        one.signal(signal.SIGUSR1)
        one.wait_for_log("received SIGUSR1")
        idle[-1].sendall(STATUS)
        assert json.loads(idle[-1].makefile("rb").readline())["ok"], "the youngest of them still has its place"
    assert one.stop() == 0


def test_h10_who_waits_for_a_verdict_is_not_cut_by_others_that_come(daemon):
    one = daemon(paste=pipeline("hello"), workers=1).start()
    with connections(one, 1) as (asker,):
        asker.sendall(b'{"v": 1, "command": "reload"}\n')
        with connections(one, 100):
            assert json.loads(asker.makefile("rb").readline())["ok"]
    assert one.stop() == 0


def status(one):
    """By apidctl, whose connect waits for room in the queue."""
    return json.loads(one.apidctl("status", "--json", timeout=20).stdout)


@pytest.mark.slow
def test_h10_a_signal_is_heard_among_pipelined_commands_and_a_flood_of_connections(daemon):
    """One client sends commands without an end, one reads no answer, one comes and goes: the others are served, TERM is heard."""
    one = daemon(paste=pipeline("hello"), workers=1).start()
    stop = threading.Event()

    def come_and_go():
        while not stop.is_set():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(one.control))

    with connections(one, 2) as (flooding, deaf):
        for sock in (flooding, deaf):
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.send(STATUS * 10_000)

        def flood():
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    flooding.recv(1 << 20)
                with contextlib.suppress(OSError):
                    flooding.send(STATUS * 100)

        threads = [threading.Thread(target=work) for work in (flood, come_and_go)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                assert status(one)["ready"] == 1
            (worker,) = one.worker_pids()
            os.kill(worker, signal.SIGKILL)
            one.allow("crash:SIGKILL")
            wait_until(lambda: len(one.worker_pids()) == 1 and one.worker_pids() != [worker], "another worker", 20)
            rss = processes.rss(one.pid)
            assert status(one)["ready"] in {0, 1}
            assert processes.rss(one.pid) - rss < 8 << 20
            one.signal(signal.SIGTERM)
            assert one.wait(20) == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_h10_a_storm_of_signals_hides_no_other(daemon):
    one = daemon(paste=pipeline("hello"), workers=1).start()
    for _ in range(20_000):
        one.signal(signal.SIGUSR1)
    one.signal(signal.SIGTERM)
    assert one.wait(20) == 0
