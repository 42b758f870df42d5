"""The daemon serves: over each kind of address, with workers and without, and its processes are what they should be."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import time

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import Connection, get
from tests.support.processes import wait_until


def pid_in(answer) -> int:
    """Which worker answered, from the body of an application."""
    return int(re.search(r"pid=(\d+)", answer.text)[1])


@pytest.mark.both_engines
def test_every_worker_answers_and_the_parent_does_not(daemon):
    one = daemon(paste=pipeline("hello"), workers=3).start()
    workers = set(one.wait_for_workers(3))
    seen = set()
    wait_until(lambda: seen.add(pid_in(get(one.address))) or seen >= workers, "an answer of each worker")
    assert seen == workers
    assert one.pid not in seen
    assert one.stop() == 0


def test_two_listeners_of_each_kind(daemon, tmp_path):
    path = tmp_path / "api.sock"
    bind = ["127.0.0.1:0", "[::1]:0", f"unix:{path}"]
    one = daemon(paste=pipeline("hello"), bind=bind, bind_port=None).start()
    addresses = one.addresses()
    assert len(addresses) == 3
    assert addresses[2] == f"unix:{path}"
    ports = [int(address.rpartition(":")[2]) for address in addresses[:2]]
    for address in (("127.0.0.1", ports[0]), ("::1", ports[1]), path):
        assert get(address).status == 200
    assert one.stop() == 0
    assert not path.exists(), "the file of the socket goes with it"


def test_an_inherited_socket_is_adopted_and_not_closed(daemon):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = daemon(paste=pipeline("hello"), bind="fd:web", bind_port=None, listen={"web": listener}).start()
        assert get(listener.getsockname()).status == 200
        assert one.stop() == 0
        with Connection(listener.getsockname(), timeout=1):
            pass  # the queue is the service manager's: it is still open


def test_a_stale_unix_socket_is_replaced_and_a_living_one_is_not(daemon, tmp_path):
    path = tmp_path / "api.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    one = daemon(paste=pipeline("hello"), bind=f"unix:{path}", bind_port=None).start()
    assert get(path).status == 200
    other = daemon(paste=pipeline("hello"), bind=f"unix:{path}", bind_port=None).launch()
    assert other.wait() == 3
    other.allow("CRITICAL", "ERROR")
    assert get(path).status == 200
    assert one.stop() == 0


@pytest.mark.parametrize("workers", [1, 0])
def test_the_umask_is_that_of_a_unix_socket_too(daemon, tmp_path, workers):
    path = tmp_path / "api.sock"
    one = daemon(paste=pipeline("hello"), bind=f"unix:{path}", bind_port=None, umask="0007", workers=workers).start()
    assert stat.filemode(path.stat().st_mode) == "srwxrwx---"
    assert get(path).status == 200
    assert one.stop() == 0


@pytest.mark.both_engines
def test_inline_without_a_fork(daemon, tmp_path):
    path = tmp_path / "apid.pid"
    one = daemon(paste=pipeline("hello"), workers=0, pid_file=path).start()
    assert pid_in(get(one.address)) == one.pid == int(path.read_text())
    assert one.worker_pids() == []
    assert one.stop() == 0
    assert not path.exists()


@pytest.mark.both_engines
def test_inline_survives_the_signals_that_are_for_a_parent(daemon):
    one = daemon(paste=pipeline("hello"), workers=0).start()
    for name in ("SIGHUP", "SIGUSR2", "SIGTTIN", "SIGTTOU", "SIGWINCH"):
        one.signal(getattr(signal, name))
        one.wait_for_log(f"{name} has no meaning when serving inline")
    one.signal(signal.SIGUSR1)
    assert pid_in(get(one.address)) == one.pid
    assert one.stop() == 0


def test_inline_takes_the_file_of_its_unix_socket_away(daemon, tmp_path):
    path = tmp_path / "inline.sock"
    one = daemon(paste=pipeline("hello"), workers=0, bind=f"unix:{path}").start()
    assert path.is_socket()
    assert one.stop() == 0
    assert not path.exists()


def test_the_pid_file_names_the_parent_while_it_lives(daemon, tmp_path):
    path = tmp_path / "apid.pid"
    one = daemon(paste=pipeline("hello"), pid_file=path).start()
    assert int(path.read_text()) == one.pid
    other = daemon(paste=pipeline("hello"), pid_file=path).launch()
    assert other.wait() == 2
    other.allow("CRITICAL", "ERROR")
    assert str(path) in other.log()
    assert int(path.read_text()) == one.pid, "it is the first one's, and stays"
    assert one.stop() == 0
    assert not path.exists()


def test_process_titles_tell_parent_and_workers_apart(daemon):
    one = daemon(paste=pipeline("hello"), workers=2).start()
    assert "apid" in processes.command(one.pid)
    titles = [processes.command(pid) for pid in one.wait_for_workers(2)]
    assert all("worker" in title for title in titles), titles
    assert len(set(titles)) == 2, titles
    assert one.stop() == 0


@pytest.mark.both_engines
def test_the_parent_never_holds_the_engine(daemon, engine):
    one = daemon(paste=pipeline("hello"), workers=1).start()
    one.signal(signal.SIGHUP)
    one.wait_ready(2)
    maps = pathlib.Path(f"/proc/{one.pid}/maps").read_text()
    assert "greenlet" not in maps, "the C extension of eventlet's foundation is mapped into the parent"
    (worker,) = one.wait_for_workers(1)
    held = "greenlet" in pathlib.Path(f"/proc/{worker}/maps").read_text()
    assert held == (engine == "eventlet"), "or this test looks for the wrong thing"
    assert len(list(pathlib.Path(f"/proc/{one.pid}/task").iterdir())) == 1, "no thread in the parent"
    assert one.stop() == 0


def test_a_killed_worker_is_replaced_in_its_slot(daemon):
    one = daemon(paste=pipeline("hello"), workers=2).start()
    first, second = one.wait_for_workers(2)
    os.kill(first, signal.SIGKILL)
    pids = one.wait_for_workers(2, but=[first])
    assert second in pids
    one.wait_for_log(r"crash:SIGKILL")
    wait_until(lambda: one.status()["ready"] == 2, "two ready workers")
    assert sorted(worker["slot"] for worker in one.status()["workers"]) == [0, 1]
    one.allow("crash:SIGKILL")
    assert get(one.address).status == 200
    assert one.stop() == 0


@pytest.mark.both_engines
@pytest.mark.timing
def test_h5_the_death_of_the_parent_ends_the_workers_and_frees_the_port(daemon, say):
    one = daemon(paste=pipeline("hello"), workers=2).start()
    workers = one.wait_for_workers(2)
    address = one.address
    with Connection(address) as idle:
        assert idle.request().status == 200
        os.kill(one.pid, signal.SIGKILL)
        died = time.monotonic()
        assert one.wait() == -signal.SIGKILL
        wait_until(lambda: free(address), "the port is free", 2.0)
        # an idle client that does not close its end holds its worker for the whole of the grace and of the linger
        wait_until(lambda: not any(processes.alive(pid) for pid in workers), "the workers' end", 4.0)
    say(f"the last worker was gone {time.monotonic() - died:.2f} s after the parent")


def free(address):
    """Whether an address can be bound and listened on."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
            sock.listen()
        except OSError:
            return False
    return True


def test_h5_the_death_of_a_worker_costs_its_own_requests_only(daemon):
    one = daemon(paste=pipeline("hello"), workers=2).start()
    victim, other = one.wait_for_workers(2)
    connections = {}
    with_all = []
    try:
        while set(connections) != {victim, other}:
            connection = Connection(one.address)
            with_all.append(connection)
            connections[pid_in(connection.request())] = connection
        os.kill(victim, signal.SIGKILL)
        one.wait_for_workers(2, but=[victim])
        assert pid_in(connections[other].request()) == other
        assert connections[victim].rest() == b""
    finally:
        for connection in with_all:
            connection.close()
    one.allow("crash:SIGKILL")
    assert one.stop() == 0


def test_check_config_prints_what_it_found_and_serves_nothing(daemon):
    one = daemon(paste=pipeline("hello"), arguments=["--check-config"]).launch()
    assert one.wait() == 0
    assert "workers" in one.log()
    assert "apid.conf" in one.log(), "each value with its source"
    assert "main" in one.log()
    assert "listening on" not in one.log()


@pytest.mark.parametrize("words", [["--version"], ["--help"]])
def test_what_is_asked_on_the_command_line_is_answered(words):
    from tests.support.daemon import PROGRAM

    done = subprocess.run([str(PROGRAM), *words], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0
    assert done.stdout.startswith("apid ") or "usage:" in done.stdout
    assert done.stderr == ""
