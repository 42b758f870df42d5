"""H8: nothing that an application sets for its whole process ends a worker, makes it deaf, or keeps the parent from it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import time

import pytest

from tests.support import processes
from tests.support.apps import changing, pipeline
from tests.support.client import AnswerError, Connection, get, request_bytes
from tests.support.processes import wait_until

ONE_OF_TWO = {"streams_closed": "streams", "signals_taken": "signals_default"}
"""Changes that undo, or hide, another one."""

ALL = [name for name in changing.CHANGES if name not in ONE_OF_TWO]
OTHERS = [name for name in changing.CHANGES if name not in ONE_OF_TWO.values()]
EXPECTED = (
    "the application changed", "is ignored: a worker of apid has its own hub", "was interrupted by an exception", "RuntimeError",
    "received SIGALRM, for which", "Traceback", "hung", "worker ended: exit:0", "stalled",
)  # fmt: skip


def possible(changes, engine):
    """Without those that replace the standard library by eventlet's, where that is of no use to the engine."""
    return [name for name in changes if engine == "eventlet" or name != "hub"]


def it_serves_for(one, seconds):
    """Ask again and again; who serves must stay the same."""
    pids = set(one.wait_for_workers(2))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert get(one.address).json()["pid"] in pids
        time.sleep(0.02)
    assert set(one.worker_pids()) == pids


def its_parent_reaches_it(one):
    """The log files, the stacks and a drain: all that the parent asks of a worker."""
    access = one.directory / "access.log"
    access.rename(one.directory / "old")
    one.apidctl("reopen")
    assert stat.S_IMODE(access.stat().st_mode) == 0o644
    one.apidctl("dump")
    assert one.log().count("stacks of ") == 2
    get(one.address)
    month = time.strftime("%m")
    english = "JanFebMarAprMayJunJulAugSepOctNovDec"[int(month) * 3 - 3 :][:3]
    wait_until(lambda: f"/{english}/" in access.read_text(), "a line in the access log, in English")


def it_drains(one, pid, cause):
    """A worker that is told to leave answers what it has."""
    with contextlib.ExitStack() as stack:
        while True:
            connection = stack.enter_context(Connection(one.address))
            if connection.request().json()["pid"] == pid:
                break
        connection.send(request_bytes("GET", "/slow"))
        wait_until(lambda: "/slow" in str(one.ask("status", number=9)), "the request is in flight")
        cause()
        answer = connection.answer()
        assert (answer.status, answer.json()["pid"]) == (200, pid)


@pytest.mark.both_engines(slow=True)
@pytest.mark.parametrize("changes", [pytest.param(ALL, marks=pytest.mark.slow), OTHERS], ids=["all", "others"])
def test_h8_what_is_set_while_it_loads(daemon, engine, changes):
    changes = possible(changes, engine)
    one = daemon(
        paste=pipeline("changing", changes=" ".join(changes)), access_log="access.log", graceful_shutdown_timeout=10
    )
    one.allow(*EXPECTED)
    one.start()
    if "signal_raises" in changes:  # it would interrupt a request as well
        one.wait_for_log("RuntimeError: raised by a handler of the application", count=2)
    with Connection(one.address) as taken:
        taken.send(request_bytes("GET", "/echo", headers={"Connection": "Upgrade", "Upgrade": "echo"}))
        it_serves_for(one, 1.5)
        taken.send(b"said late")
        assert taken.rest().endswith(b"\r\n\r\nsaid late"), "a socket that was taken over has no timeout of its own"
    its_parent_reaches_it(one)
    assert get(one.address, "/offload").json()["offload"] == "done"
    pid = get(one.address).json()["pid"]
    it_drains(one, pid, lambda: os.kill(pid, signal.SIGTERM))
    wait_until(lambda: one.status()["ends"].get("exit:0") == 1, "the end of the worker")
    one.wait_for_workers(2, but=[pid])
    one.apidctl("reload")
    (pid, _) = one.wait_for_workers(2)
    it_drains(one, pid, lambda: os.kill(one.pid, signal.SIGTERM))
    assert one.wait() == 0


@pytest.mark.timing
@pytest.mark.both_engines(slow=True)
def test_h8_what_is_set_while_it_serves(daemon, engine):
    options = {"access_log": "access.log", "graceful_shutdown_timeout": 10, "worker_timeout": 2, "pool_size": 1}
    one = daemon(paste=pipeline("changing"), **options).start()
    one.allow(*EXPECTED, "CRITICAL|ERROR")
    pids = set(one.wait_for_workers(2))
    for pid in pids:
        for name in possible(ALL, engine):
            with contextlib.suppress(AnswerError):  # a request in which a handler raises fails, and nothing else
                on(one, pid, f"/{name}")
    it_serves_for(one, 1.5)
    its_parent_reaches_it(one)
    hung = get(one.address).json()["pid"]
    with pytest.raises(AnswerError):
        on(one, hung, "/hang")
    wait_until(lambda: one.status()["ends"].get("hung") == 1, "the hung worker is killed", 20)
    wait_until(lambda: one.status()["ready"] == 2, "its successor is ready")
    assert "changing.py" in one.log(), "its stack is in the log"
    (other,) = pids - {hung}
    it_drains(one, other, lambda: os.kill(other, signal.SIGTERM))
    assert one.stop() == 0


def on(one, pid, path):
    """Send a request to this worker."""
    with contextlib.ExitStack() as others:  # they stay open: who has fewer connections accepts the next one
        for attempt in range(200):
            connection = others.enter_context(Connection(one.address, timeout=20))
            if connection.request().json()["pid"] == pid:
                return connection.request("GET", path)
            if attempt > 10:  # a busy machine keeps a worker from its turn for longer than 200 requests take
                time.sleep(0.02)
    raise AssertionError(f"no connection came to {pid}")


@pytest.mark.both_engines(slow=True)
@pytest.mark.parametrize("what", ["epoll", "channel", "listener", "signals", "all"])
def test_h8_a_closed_descriptor_is_named_and_the_worker_replaced(daemon, what):
    one = daemon(paste=pipeline("changing"), workers=1).start()
    one.allow("the application has closed", "worker ended", "Bad file descriptor", "no longer accept")
    (pid,) = one.wait_for_workers(1)
    with contextlib.suppress(AnswerError):
        get(one.address, f"/close?{what}")
    wait_until(lambda: not processes.alive(pid), "the worker has left", 15)
    (pid,) = one.wait_for_workers(1, but=[pid])
    one.wait_for_log(r"the application has closed .*(epoll|channel|listener|signals)")
    wait_until(lambda: one.status()["ready"] == 1, "its successor is ready")
    assert get(one.address).json()["pid"] == pid
    assert processes.cpu_seconds(pid) < 5
    assert one.stop() == 0


@pytest.mark.both_engines(slow=True)
@pytest.mark.parametrize(
    ("what", "named"), [("channel", "the channel to the parent"), ("signals", "its signals"), ("all", "its epoll")]
)
def test_h8_a_descriptor_closed_while_it_loads_fails_the_change(daemon, what, named):
    one = daemon(paste=pipeline("changing")).start()
    pids = one.wait_for_workers(2)
    one.allow("the application closed", "reload failed", "closed descriptors", "CRITICAL", "ERROR")
    one.paste.write_text(pipeline("changing", changes=f"close-{what}"))
    assert one.apidctl("reload", check=False).returncode == 1
    assert re.search(rf"closed descriptors of the worker: .*{named} \(\d+\)", one.log())
    assert one.wait_for_workers(2) == pids
    assert get(one.address).status == 200
