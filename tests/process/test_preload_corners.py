"""R16, preload: what an application may do, and workers of a mold still come: hang in a fork, ignore children, lock by pipes."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support import processes
from tests.support.client import get
from tests.support.preloaded import loads
from tests.support.processes import wait_until


def test_a_worker_that_is_born_after_logs_were_reopened_writes_to_the_new_file(preloading):
    one = preloading(workers=1)
    target = one.directory / "daemon.log"
    one.options["log_file"] = target
    one.write_config()
    one.launch().wait_served()
    target.rename(one.directory / "daemon.log.1")
    one.apidctl("reopen")
    (pid,) = one.wait_for_workers(1)
    os.kill(pid, signal.SIGKILL)
    (new,) = one.wait_for_workers(1, but=[pid])
    wait_until(lambda: one.status()["ready"] == 1, "its successor")
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: f"pid={new} received SIGTERM" in target.read_text(), "its own line, in the new file")
    assert one.stop() == 0


def test_an_application_that_ignores_the_end_of_children_gets_workers(preloading):
    one = preloading(workers=2)
    with open(one.directory / "loaded.py", "a", encoding="utf-8") as file:
        file.write("\nimport signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n")
    one.start()
    assert loads(one) == 1
    assert one.stop() == 0


BUFFERED = """
file = open(HERE / "buffered", "w")
file.write("once")
answer = application
def application(environ, start_response):
    file.flush()
    return answer(environ, start_response)
"""


def test_what_was_buffered_while_loading_is_written_once(preloading):
    one = preloading(BUFFERED, workers=2).start()
    wanted = set(one.wait_for_workers(2))
    wait_until(lambda: wanted.discard(int(get(one.address).text.split()[1])) or not wanted, "an answer of each")
    assert (one.directory / "buffered").read_text() == "once"
    assert one.stop() == 0


def test_the_status_says_how_much_memory_each_shares(preloading):
    one = preloading(workers=2).start()

    def known():
        shown = one.status()
        weighed = [*shown["workers"], *shown["molds"]]
        return weighed if all(process["private"] and process["proportional"] for process in weighed) else []

    first, second, mold = wait_until(known, "the memory of all")
    for worker in (first, second):
        assert worker["private"] < worker["proportional"] < worker["rss"]
    assert mold["private"] < mold["proportional"]
    assert one.stop() == 0


HANGING = """
import os, pathlib, time
def hang():
    while {path!r} and pathlib.Path({path!r}).exists():
        time.sleep(0.05)
os.register_at_fork({when}=hang)
"""


@pytest.mark.slow  # an order is waited for a quarter of a minute
@pytest.mark.parametrize("when", ["before", "after_in_child"])
def test_a_function_that_hangs_in_the_fork_stops_no_stop(preloading, when):
    one = preloading(workers=1)
    there = one.directory / "there"
    with open(one.directory / "loaded.py", "a", encoding="utf-8") as file:
        file.write(HANGING.format(path=str(there), when=when))
    one.start()
    one.allow("worker ended: crash:SIGKILL", "cannot fork a worker", "the mold of generation 1")
    there.touch()
    (pid,) = one.wait_for_workers(1)
    os.kill(pid, signal.SIGKILL)
    one.wait_for_log("the mold of generation 1 .* it has not forked a worker within 10 s", 40)
    assert one.stop() == 0
    assert not [pid for pid in processes.children() if processes.command(pid).startswith("apid: mold")]


PIPE_MUTEX = """
import logging, os
class Mutex:  # as oslo.log has it
    def __init__(self):
        self.rfd, self.wfd = os.pipe()
        os.write(self.wfd, b"-")
    def acquire(self, blocking=True):
        os.read(self.rfd, 1)
    def release(self):
        os.write(self.wfd, b"-")
    __enter__ = acquire
    def __exit__(self, *_):
        self.release()
class Handler(logging.NullHandler):
    def createLock(self):
        self.lock = Mutex()
HANDLER = Handler()
def factory(global_conf):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [f"{os.getpid()} {os.fstat(HANDLER.lock.rfd).st_ino}".encode()]
    return app
"""


def test_the_lock_of_a_handler_that_is_a_pipe_is_not_shared(preloading):
    one = preloading(workers=2)
    (one.directory / "loaded.py").write_text(PIPE_MUTEX, encoding="utf-8")
    one.start()
    found = {}
    wait_until(lambda: found.update([get(one.address).text.split()]) or len(found) == 2, "both workers")
    assert len(set(found.values())) == 2
    assert one.stop() == 0
