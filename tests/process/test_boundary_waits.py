"""Worker against parent: a worker that makes its parent wait, for a close, for a stopped child or for an end."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.process import test_boundary_worker
from tests.process.test_boundary_worker import ATTACKS, each_worker, execute
from tests.support import processes
from tests.support.client import Connection
from tests.support.daemon import TOP
from tests.support.processes import wait_until

taken_over = test_boundary_worker.taken_over

LINGER = """
import array, ctypes, os, socket, struct
peer = socket.create_server(("127.0.0.1", 0))
one = socket.create_connection(peer.getsockname())
one.setblocking(False)
try:
    while one.send(b"x" * 65536):
        pass
except BlockingIOError:
    pass
one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
sock = channel()
try:
    sent = array.array("i", [one.fileno()])
    sock.sendmsg([b'{"type":"RecycleAsked","cause":"rss"}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)])
    answer = "sent"
    ctypes.CDLL(None).close(one.detach())
except PermissionError:
    answer = "refused"
sock.detach()
import builtins
builtins.kept = peer, one  # or the worker itself would wait
"""
"""A descriptor whose close waits for a minute, in the process that does it last."""

TRACEME = """
import ctypes, os, signal
ctypes.CDLL(None).ptrace(0, 0, 0, 0)
os.kill(os.getpid(), signal.SIGSTOP)
"""

TRACER = """
import ctypes, pathlib, sys, time
pid, ptrace, waitpid = int(sys.argv[1]), ctypes.CDLL(None).ptrace, ctypes.CDLL(None).waitpid
print(ptrace(0x4206, pid, 0, 0), flush=True)  # PTRACE_SEIZE
for turn in range(1200):
    state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    if state == "t":  # it was sent a signal: pass it on
        status = ctypes.c_int()
        waitpid(pid, ctypes.byref(status), 1)
        ptrace(7, pid, 0, status.value >> 8 & 0xff)
    time.sleep(0.05)
"""
"""A process that traces a worker, and does not wait for its end: until it does, the end is not reported to the parent."""

TRACED = f"""
import os, subprocess, sys
one = subprocess.Popen([sys.executable, "-c", {TRACER!r}, str(os.getpid())], stdout=subprocess.PIPE, start_new_session=True)
answer = str(one.pid) + one.stdout.readline().decode()
"""


@pytest.mark.both_engines
def test_a_worker_cannot_send_the_parent_what_waits_when_it_is_closed(taken_over):
    """Linux 6.16 and newer refuse it at the sender (SO_PASSRIGHTS)."""
    one = taken_over(workers=1)
    with Connection(one.address) as connection:
        answer = execute(connection, LINGER)
        if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 16):
            pytest.skip("this kernel has no SO_PASSRIGHTS: the parent waits, until a signal comes")
        assert answer == "refused"
        assert one.ask("status", timeout=5)["ok"]


@pytest.mark.slow
@pytest.mark.both_engines
def test_a_worker_that_makes_the_parent_its_tracer_is_killed(taken_over, engine):
    """Under engine = threads only the thread of its request is traced; the rest is stopped, as by any other SIGSTOP."""
    one = taken_over(workers=2, worker_timeout=2)
    one.allow("protocol violation", "stalled", "hung")
    (spared, sibling), (attacker, connection) = each_worker(one).items()
    execute(connection, TRACEME)
    wait_until(lambda: not processes.alive(attacker), "the attacker is dead", 10)
    assert sibling.request().text == str(spared)
    assert spared in one.wait_for_workers(2, but=[attacker], deadline=20)
    traced = "protocol violation: it has made the parent its tracer, and is stopped: killed"
    one.wait_for_log(rf"pid={attacker} {traced if engine == 'eventlet' else 'hung: killed'}")
    sibling.close()
    connection.close()


@pytest.mark.slow
def test_a_worker_whose_end_is_not_reported_stops_no_stop(taken_over):
    one = taken_over(workers=1, graceful_shutdown_timeout=1)
    one.allow("did not leave in time: killed", "given up", "worker ended: stop")
    (worker,) = one.worker_pids()
    with Connection(one.address) as connection:
        answer = execute(connection, TRACED)
    if not answer.strip().endswith("0"):
        pytest.skip("this kernel lets no process trace another one of its user (Yama)")
    tracer = int(answer.strip()[:-1])
    try:
        assert one.stop() in (0, 1)
        assert re.search(rf"pid={worker} .*given up \(traced, or waiting in the kernel\)", one.log())
    finally:
        processes.end(tracer)


@pytest.mark.slow
def test_a_trial_that_never_ends_after_its_word_fails_check_config(taken_over):
    one = taken_over(workers=1, startup_timeout=3)
    (one.directory / "at_load").write_text(ATTACKS["ready twice"] + "import time\ntime.sleep(60)\n")
    check = [*one.program, "--config-file", str(one.config), "--check-config"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{one.directory}:{TOP}"}
    done = subprocess.run(check, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert "the child that loads the pipelines did not end within 3 s" in done.stderr
