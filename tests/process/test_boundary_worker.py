"""Worker against parent, worker against sibling: an application that has taken over its worker, as an unprivileged user.

Whatever it sends, writes or truncates: the parent keeps its pid and answers, the other workers serve on, and a worker that
violates the protocol is killed and replaced.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import Connection, NoAnswer, get
from tests.support.daemon import PROGRAM, Daemon
from tests.support.processes import wait_until

SEND = """
import socket
sock = channel()
try:
    for packet in {packets!r}:
        sock.send(packet, socket.MSG_DONTWAIT)
except OSError:
    pass
sock.detach()
"""

FLOOD = """
import socket
sock = channel()
for turn in range(100_000):
    try:
        sock.send({packet!r}, socket.MSG_DONTWAIT)
    except OSError:
        break
sock.detach()
"""

MOUNT = """
closed=$1 python=$2; shift 2
mount --bind "$python" /mnt
mount -t tmpfs -o mode=755 none "$closed"
mkdir -p "$python"
mount --move /mnt "$python"
exec "$@"
"""

DESCRIPTORS = """
import array, os, socket
sock = channel()
ends = [one for _ in range(50) for one in os.pipe()]
for turn in range(20):
    try:
        sock.sendmsg([b'{"type":"Ready"}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", ends))], socket.MSG_DONTWAIT)
    except PermissionError:
        sock.send(b'{"type":"Ready"}', socket.MSG_DONTWAIT)
sock.detach()
"""

ATTACKS = {
    "nested": SEND.format(packets=[b"[" * 60_000]),
    "cause is an object": SEND.format(packets=[b'{"type":"RecycleAsked","cause":{}}']),
    "nothing": SEND.format(packets=[b""]),
    "too long": SEND.format(packets=[b'{"type":"Reopened","error":"%s"}' % (b"x" * 70_000)]),
    "ready twice": SEND.format(packets=[b'{"type":"Ready","report":{}}']),
    "not asked": FLOOD.format(packet=b'{"type":"Reopened","error":"x"}'),
    "flood": FLOOD.format(packet=b'{"type":"RecycleAsked","cause":"rss"}'),
    "descriptors": DESCRIPTORS,
}


@pytest.fixture
def taken_over(request, engine):
    """A function that starts a daemon of `taken_over`, as root with workers of an unprivileged user where that is possible."""
    made: list[Daemon] = []

    def make(**options) -> Daemon:
        directory = Path(tempfile.mkdtemp(prefix="apid-boundary-"))
        request.addfinalizer(lambda: shutil.rmtree(directory, ignore_errors=True))
        directory.chmod(0o755)
        root = os.geteuid() == 0
        paste = pipeline("taken_over", at_load=directory / "at_load")
        more = {"user": "nobody", "program": readable_by_others()} if root else {}
        one = Daemon(directory, paste=paste, engine=engine, **{**more, **options})
        made.append(one)
        return one.start()

    yield make
    try:
        for one in made:
            assert one.stop() in (0, 1)
            one.check_log()
    finally:
        for one in made:
            one.kill()


def readable_by_others() -> list[str]:
    """The command of the daemon; where Python lives in a directory of root's, it is mounted there for everybody to read."""
    python = Path(sys.base_prefix).resolve()
    closed = [each for each in python.parents if not each.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return [str(PROGRAM)]
    return ["unshare", "--mount", "sh", "-ec", MOUNT, "sh", str(closed[-1]), str(python), str(PROGRAM)]


def each_worker(one: Daemon) -> dict[int, Connection]:
    """A connection to each worker, by its pid."""
    found: dict[int, Connection] = {}

    def more() -> bool:
        connection = Connection(one.address)
        pid = int(connection.request().text)
        if found.setdefault(pid, connection) is not connection:
            connection.close()
        return found.keys() == set(one.worker_pids())

    wait_until(more, "a connection to each worker", 20)
    return found


def execute(connection: Connection, code: str) -> str:
    """Have the worker at the other end execute Python; empty where that was its end."""
    try:
        return connection.request("POST", body=code.encode()).text
    except (NoAnswer, ConnectionResetError):
        return ""


@pytest.mark.both_engines
def test_whatever_a_worker_sends_costs_its_own_life_only(taken_over):
    one = taken_over(workers=len(ATTACKS) + 1)
    one.allow("protocol violation")
    before = processes.descriptors(one.pid)
    connections = each_worker(one)
    (spared, sibling), *attacked = connections.items()
    for (pid, connection), (name, code) in zip(attacked, ATTACKS.items(), strict=True):
        execute(connection, code)
        wait_until(lambda pid=pid: not processes.alive(pid), f"{name}: the attacker is dead", 10)
        assert sibling.request().text == str(spared)
        assert one.status()["pid"] == one.pid
    for connection in connections.values():
        connection.close()
    pids = one.wait_for_workers(len(ATTACKS) + 1, but=[pid for pid, _ in attacked], deadline=30)
    assert spared in pids
    wait_until(lambda: one.status()["ready"] == len(ATTACKS) + 1, "all are replaced", 30)
    for pid, _ in attacked:
        assert len(re.findall(rf"ERROR .*pid={pid} protocol violation: .*: killed", one.log())) == 1
        assert re.search(rf"pid={pid} worker ended: crash:SIGKILL: protocol violation", one.log())
    assert one.status()["ends"]["crash:SIGKILL"] == len(ATTACKS)
    wait_until(lambda: len(processes.descriptors(one.pid)) <= len(before), "no descriptor of theirs is left", 10)
    assert len(one.log()) < 200_000
    assert one.ask("reload")["ok"]


@pytest.mark.parametrize(("preload", "who"), [("auto", "mold"), ("off", "trial")])
@pytest.mark.parametrize("attack", ["nested", "ready twice"])
def test_a_trial_that_sends_anything_else_fails_its_reload(taken_over, attack, preload, who):
    one = taken_over(workers=1, preload=preload)
    one.allow("reload failed", "Traceback")
    (one.directory / "at_load").write_text(
        ATTACKS[attack] + "import time\ntime.sleep(60)\n" * (attack != "ready twice")
    )
    answer = one.ask("reload")
    assert not answer["ok"]
    assert f"protocol violation of the {who}" in str(answer)
    assert get(one.address).status == 200
    assert one.status()["generation"] == 1


MAPPED = """
import ctypes
def mapped():
    for line in open("/proc/self/maps"):
        if "memfd:apid" in line:
            span, protection = line.split()[:2]
            start, end = (int(part, 16) for part in span.split("-"))
            yield start, end - start, protection
"""

OVERWRITE = (
    MAPPED
    + """
for start, size, protection in mapped():
    if "w" in protection:
        ctypes.memset(start, 0xFF, size)
"""
)

FOR_EVER = (
    OVERWRITE
    + """
import threading, time
from tests.support.apps import original
def again():
    sleep = original("time").sleep
    while True:
        for start, size, protection in spans:
            ctypes.memset(start, 0xFF, size)
        sleep(0.01)
spans = [one for one in mapped() if "w" in one[2]]
original("threading").Thread(target=again, daemon=True).start()
"""
)

PERMIT = (
    MAPPED
    + """
answer = [ctypes.CDLL(None).mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), 3) for start, size, protection in mapped()
          if "w" not in protection]
"""
)

LIE = (
    MAPPED
    + """
import ctypes, random, threading
from tests.support.apps import original
def lie():
    sleep = original("time").sleep
    start = next(start for start, size, protection in mapped() if "w" in protection)
    cells = (ctypes.c_uint64 * 512).from_address(start)
    while True:
        cells[:] = [random.randrange(3) for _ in cells]
        sleep(0.001)
original("threading").Thread(target=lie, daemon=True).start()
"""
)

TRUNCATE = """
import os, re
answer = []
for name in os.listdir("/proc/self/fd"):
    try:
        if "memfd:" in os.readlink("/proc/self/fd/" + name):
            for size in (0, 1, 2**40):
                try:
                    os.ftruncate(int(name), size)
                    answer.append(name)
                except PermissionError:
                    pass
            try:
                while True:
                    os.write(int(name), b"x" * 65536)
            except PermissionError:
                pass
    except OSError:
        pass
"""


@pytest.mark.slow
def test_whatever_a_worker_does_to_the_shared_memory(taken_over):
    """It truncates, grows, makes it writable and fills it with 0xff: numbers are wrong, and nothing else is."""
    one = taken_over(workers=2, worker_timeout=3, graceful_shutdown_timeout=5)
    one.allow(".")
    (spared, sibling), (attacker, connection) = each_worker(one).items()
    assert execute(connection, TRUNCATE) == "[]"
    results = set(execute(connection, PERMIT).strip("[]").split(", "))
    assert results == {"-1"}, "a mapping that is only read was made writable"
    execute(connection, OVERWRITE)
    for _ in range(20):
        assert sibling.request().text == str(spared)
        with Connection(one.address) as other:
            assert int(other.request().text) in (spared, attacker)
    shown = {worker["pid"]: worker for worker in one.status()["workers"]}
    assert shown[spared]["requests"] < 1000
    one.apidctl("status")
    assert one.ask("reload")["ok"]
    pids = one.wait_for_workers(2, but=[spared, attacker], deadline=20)
    assert one.status()["pid"] == one.pid
    totals = one.status()["totals"]["requests"]
    assert totals == 2**64 - 1, "the sum stops at the greatest number"
    connection.close()
    sibling.close()

    # a lie about the connections of everybody keeps no client waiting
    (spared, sibling), (attacker, connection) = each_worker(one).items()
    execute(connection, LIE)
    for _ in range(30):
        with Connection(one.address) as other:
            assert int(other.request().text) in (spared, attacker)
    connection.close()
    sibling.close()

    # and once more, without end, and with nothing that looks like a beat
    (spared, sibling), (attacker, connection) = each_worker(one).items()
    assert {spared, attacker} == set(pids)
    execute(connection, FOR_EVER)
    wait_until(lambda: not processes.alive(attacker), "a worker that writes no beat is hung", 20)
    assert sibling.request().text == str(spared)
    assert spared in one.wait_for_workers(2, but=[attacker], deadline=20)
    wait_until(lambda: one.status()["ready"] == 2, "it is replaced", 20)
    assert one.ask("reload")["ok"]
    sibling.close()
    connection.close()


OPEN = """
import os, socket
answer = []
for name in os.listdir("/proc/self/fd"):
    try:
        what = os.readlink("/proc/self/fd/" + name)
        if what.startswith("socket:"):
            sock = socket.socket(fileno=os.dup(int(name)))
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            what = sock.type.name + " listening" * listens
            sock.close()
        answer.append(what)
    except OSError:
        pass
answer = "\\n".join(answer)
"""


@pytest.mark.both_engines
def test_a_worker_has_the_descriptors_that_it_needs(taken_over, engine):
    """No control socket, no channel of a sibling, no shared memory that could be mapped again, no pid file."""
    one = taken_over(workers=2, pid_file="apid.pid")
    connections = each_worker(one)
    found = Counter(
        re.sub(r":\[\d+\]", "", line) for line in execute(next(iter(connections.values())), OPEN).split("\n")
    )
    for connection in connections.values():
        connection.close()
    log = str(one.log_path)
    assert found.pop("SOCK_STREAM") >= 1  # connections
    assert found == {
        "/dev/null": 1,
        log: 3,  # standard output, standard error, the log
        "pipe": 2,  # signals
        "anon_inode:[eventpoll]": 1,
        "SOCK_STREAM listening": 1,
        "SOCK_SEQPACKET": 1,
        "/memfd:apid-stacks (deleted)": 1,
        **({"anon_inode:[eventfd]": 1} if engine == "threads" else {}),  # wakes its loop
    }
