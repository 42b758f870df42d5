"""S7: what a worker keeps of a privileged parent. Everything that it has is in a list here; what is not in it is a fault."""

from __future__ import annotations

import os
import pty
import re
import signal
import sys

import pytest

from tests.support import processes, unprivileged
from tests.support.apps import pipeline
from tests.support.client import Connection, get, request_bytes
from tests.support.daemon import PROGRAM
from tests.support.processes import wait_until

SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")
NOTHING = ["0000000000000000"]

DESCRIPTORS = {
    "standard streams": (r"/dev/null|.*/apid\.log", 3),
    "the log": (r".*/apid\.log", 1),
    "epoll of the hub": (r"anon_inode:\[eventpoll\]", 1),
    "signals, both ends": (r"pipe:.*", 2),
    "the listening socket, the channel to the parent, this request's connection": (r"socket:.*", 3),
    "stacks, for the parent": (r"/memfd:apid-stacks .*", 1),
}
OF_THREADS = {"the bell of the loop": (r"anon_inode:\[eventfd\]", 1)}
ENVIRONMENT = {
    *("EVENTLET_NO_GREENDNS", "LANG", "PATH", "PYTHONFAULTHANDLER", "PYTHONPATH", "STATE_DIRECTORY", "KEPT"),
    *("LC_CTYPE", "OLDPWD", "PWD", "SHLVL", "_"),  # of Python and of a shell
}
OF_THE_MANAGER = {"NOTIFY_SOCKET": "@apid-of-nobody", "WATCHDOG_USEC": "30000000", "LISTEN_PIDFDID": "1"}

IN_A_TERMINAL = """
import os, sys
terminal = os.open(sys.argv[1], os.O_RDWR)
for fd in range(3):
    os.dup2(terminal, fd)
os.close(terminal)
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Run as the leader of a session: the terminal that it opens becomes its controlling terminal."""


@pytest.fixture
def tmp_path():
    """Where the fixture `daemon` puts its files."""
    yield from unprivileged.open_directory()


@pytest.fixture
def privileged(daemon):
    """A function that makes a daemon of `having` that root starts, with an unprivileged user."""

    def make(*before, **options):
        program = [*before, *unprivileged.prefix(), str(PROGRAM)]
        options = {"user": unprivileged.USER, "workers": 1, "program": program, "control_socket": None, **options}
        return daemon(paste=pipeline("having"), **options)

    return make


@pytest.mark.both_engines
def test_s7_everything_that_a_worker_has(privileged, engine):
    one = privileged(environment={**OF_THE_MANAGER, "KEPT": "1"}).start()
    has = get(one.address).json()
    uid, gid = map(str, unprivileged.ids())
    assert (has["Uid"], has["Gid"], has["Groups"]) == ([uid] * 4, [gid] * 4, [gid])
    assert {name: has[name] for name in SETS} == dict.fromkeys(SETS, NOTHING)
    assert "KEPT" in has["environ"]
    assert set(has["environ"]) <= ENVIRONMENT
    left = list(has["descriptors"].values())
    needs = {**DESCRIPTORS, **(OF_THREADS if engine == "threads" else {})}
    for what, (pattern, count) in needs.items():
        for _ in range(count):
            found = next((name for name in left if re.fullmatch(pattern, name)), None)
            assert found is not None, f"{what}: not in {left}"
            left.remove(found)
    assert not left
    assert one.stop() == 0


def test_s7_the_terminal_of_root_is_out_of_reach(privileged):
    master, slave = pty.openpty()
    try:
        terminal = os.ttyname(slave)
        before = [sys.executable, "-I", "-S", "-c", IN_A_TERMINAL, terminal]
        one = privileged(*before)
        one.options["log_file"] = one.log_path
        one.write_config()
        one.start()
        assert set(processes.descriptors(one.pid).values()) >= {terminal}, "the daemon has a terminal"
        has = get(one.address).json()
        assert has["session"]
        assert has["terminal"] == "ENXIO", "it has no controlling terminal"
        assert [has["descriptors"][fd] for fd in "012"] == [os.devnull, terminal, terminal]
        assert has["modes"] == [os.O_RDONLY, os.O_WRONLY, os.O_WRONLY], "it cannot read what root types"
        assert all(error in ("ENOTTY", "EPERM", "EIO") for error in has["typing"]), "it cannot type in root's name"
        workers = one.worker_pids()
        os.write(master, b"\x03")  # Ctrl-C
        assert one.wait() == 0
        assert not any(map(processes.alive, workers))
    finally:
        os.close(master)
        os.close(slave)


def test_s7_capabilities_of_a_daemon_without_root_are_not_the_workers(daemon):
    uid, gid = unprivileged.ids()
    capability = "+net_bind_service"
    become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    become += [f"--inh-caps={capability}", f"--ambient-caps={capability}"]
    program = [*unprivileged.prefix(), *become, str(PROGRAM)]
    one = daemon(paste=pipeline("having"), workers=1, program=program, control_socket=None)
    os.chown(one.directory, uid, gid)
    one.start()
    with open(f"/proc/{one.pid}/status", encoding="ascii") as status:
        assert "CapEff:\t0000000000000400" in status.read(), "the parent may bind low ports"
    has = get(one.address).json()
    assert {name: has[name] for name in SETS} == dict.fromkeys(SETS, NOTHING)
    (guard,) = (pid for pid in processes.children() if processes.command(pid) == "apid: guard")
    with open(f"/proc/{guard}/status", encoding="ascii") as status:
        lines = status.read().splitlines()
    assert {f"{name}:\t{NOTHING[0]}" for name in SETS} <= set(lines), "the guard has none either"
    assert one.stop() == 0


def test_s7_the_guard_has_the_user_of_the_workers_whom_it_ends(privileged):
    one = privileged()
    one.paste.write_text(pipeline("hanging"), encoding="utf-8")
    one.allow("is killed: the parent is gone")
    one.start()
    (guard,) = (pid for pid in processes.children() if processes.command(pid) == "apid: guard")
    uid, _ = map(str, unprivileged.ids())
    with open(f"/proc/{guard}/status", encoding="ascii") as status:
        assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in status.readlines()
    (worker,) = one.wait_for_workers(1)
    with Connection(one.address) as connection:
        connection.send(request_bytes("GET", "/sleep"))
        wait_until(lambda: "stalled" in one.log(), "the worker is blocked")
        os.kill(one.pid, signal.SIGKILL)
        one.wait()
        wait_until(lambda: not processes.alive(worker), "the guard ends it")
