"""The locks of logging where green threads, native threads and the hub log. In processes of their own: the patch stays."""

from __future__ import annotations

import subprocess
import sys

BEGIN = """
import logging, os, sys, time
from apid.server.engines.eventlet import loop
loop.install(None)
import eventlet
from eventlet import hubs, patcher, tpool
early = logging.StreamHandler(sys.stdout)
eventlet.monkey_patch()
from apid.server.engines.eventlet import loglock
loglock.install()
native = patcher.original("time")
threading = patcher.original("threading")
LOG = logging.getLogger("app")
LOG.setLevel(logging.INFO)
LOG.propagate = False
seen = []

class Handler(logging.Handler):
    def emit(self, record):
        seen.append("<" + record.getMessage())
        record.args["wait"](record.args["seconds"])
        seen.append(record.getMessage() + ">")

handler = Handler()
LOG.addHandler(handler)

def say(word, wait=lambda seconds: None, seconds=0):
    LOG.info(word, {"wait": wait, "seconds": seconds})
"""


def run(code: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", BEGIN + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_green_threads_exclude_each_other_while_one_waits_cooperatively():
    run("""
threads = [eventlet.spawn(say, str(n), eventlet.sleep, 0.01) for n in range(5)]
for thread in threads: thread.wait()
assert sorted(seen[::2]) == [f"<{n}" for n in range(5)], seen
assert [a[1:] for a in seen[::2]] == [b[:-1] for b in seen[1::2]], seen
""")


def test_the_hub_does_not_wait_for_a_green_thread():
    run("""
thread = eventlet.spawn(say, "green", eventlet.sleep, 0.05)
eventlet.sleep(0)
hubs.get_hub().schedule_call_global(0, say, "hub")
eventlet.sleep(0.01)
assert seen == ["<green", "<hub", "hub>"], seen
thread.wait()
say("after")
assert seen[3:] == ["green>", "<after", "after>"], seen
""")


def test_the_hub_turns_while_a_native_thread_has_the_lock():
    run("""
thread = threading.Thread(target=say, args=("native", native.sleep, 0.3))
thread.start()
while not seen: native.sleep(0.001)
turns = []
waiting = [eventlet.spawn(say, f"green {n}") for n in range(3)]
while thread.is_alive():
    eventlet.sleep(0.001)
    turns.append(1)
for each in waiting: each.wait()
assert len(turns) > 5, turns
assert seen[:2] == ["<native", "native>"] and len(seen) == 8, seen
""")


def test_a_green_thread_that_is_killed_while_it_waits_leaves_the_lock():
    run("""
holder = eventlet.spawn(say, "holder", eventlet.sleep, 0.02)
eventlet.sleep(0)
waiter = eventlet.spawn(say, "waiter")
eventlet.sleep(0)
waiter.kill()
holder.wait()
thread = threading.Thread(target=say, args=("native", native.sleep, 0.1))
thread.start()
while len(seen) < 3: native.sleep(0.001)
waiter = eventlet.spawn(say, "waiter")
eventlet.sleep(0.02)
waiter.kill()
thread.join()
say("after")
tpool.execute(say, "native after")
assert [word for word in seen if word[0] == "<"] == ["<holder", "<native", "<after", "<native after"], seen
""")


def test_a_forked_child_has_free_locks():
    run("""
for hold in (lambda: eventlet.spawn(say, "held", eventlet.sleep, 0.05),
             lambda: threading.Thread(target=say, args=("held", native.sleep, 0.2)).start()):
    del seen[:]
    hold()
    while not seen: eventlet.sleep(0)
    pid = os.fork()
    if pid == 0:
        say("child")
        os._exit(0 if seen[-1] == "child>" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    while len(seen) < 2: eventlet.sleep(0.001)
""")


def test_it_is_reentrant_and_what_there_was_before_has_it_too():
    run("""
say("outer", lambda seconds: say("inner"))
assert seen == ["<outer", "<inner", "inner>", "outer>"], seen
for lock in (logging._lock, early.lock, handler.lock, logging.lastResort.lock):
    assert type(lock).__name__ == "LogLock", lock
logging.config = __import__("logging.config").config
logging.config.dictConfig({"version": 1})
assert logging.getLogger("new").isEnabledFor(logging.ERROR)
""")
