"""O6: what an application registers for the end of its process runs at the end of every drain, and none of it can hold one up."""

from __future__ import annotations

import itertools
import os
import re
import signal

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.processes import wait_until

GENTLE = "spans finish temporary child logs"


def lines(one):
    file = one.directory / "file"
    return file.read_text().splitlines() if file.exists() else []


def pids(one, what):
    """Of the processes that have written `what`, in order."""
    return [int(line.split()[1]) for line in lines(one) if line.startswith(what)]


def nothing_is_left(one):
    """Every process that loaded the application has run what it registered, and left nothing."""
    assert sorted(pids(one, "ended")) == sorted(pids(one, "loaded"))
    assert not list(one.directory.glob("temporary*"))
    assert one.log().count("the application's last line") == len(pids(one, "loaded"))


@pytest.mark.both_engines(slow=True)
def test_o6_every_worker_that_drains_runs_what_was_registered(daemon):
    one = daemon(paste=pipeline("at_exit", file="file", habits=GENTLE), workers=2).start()
    one.allow("the application's last line", "fork", "worker ended: exit:0")
    numbers = itertools.count()
    sent = []

    def ask(count=20):
        for number in itertools.islice(numbers, count):
            assert get(one.address, f"/?{number}").status == 200
            sent.append(f"span {number}")

    ask()
    one.apidctl("reload")
    ask()
    one.apidctl("scale", "1")
    ask()
    (pid,) = wait_until(lambda: len(one.worker_pids()) == 1 and one.worker_pids(), "one worker")
    os.kill(pid, signal.SIGTERM)
    one.wait_for_workers(1, but=[pid])
    wait_until(lambda: one.status()["ready"] == 1, "its successor")
    one.options |= {"max_requests": 30, "workers": 1}
    one.write_config()
    one.apidctl("reload")
    ask(30)
    wait_until(lambda: one.status()["ends"].get("recycle") == 1, "a worker is recycled")
    ask(10)
    assert get(one.address, "/job").status == 200
    assert one.stop() == 0
    nothing_is_left(one)
    assert sorted(line for line in lines(one) if line.startswith("span ") and line != "span ") == sorted(sent)
    assert "finished" in lines(one)


def test_o6_a_worker_whose_exit_functions_wait_is_not_hung(daemon):
    """A green thread that waits lets the hub turn; native threads have a loop for that."""
    paste = pipeline("at_exit", file="file", habits="slow")
    one = daemon(engine="threads", paste=paste, workers=1, worker_timeout=1).start()
    assert one.stop() == 0
    assert "slowly" in lines(one)


@pytest.mark.slow
def test_o6_inline_a_trial_and_a_change_that_fails(daemon):
    one = daemon(paste=pipeline("at_exit", file="file", habits=GENTLE), workers=0)
    one.allow(
        "the application's last line", "fork", "no control socket", "fails this time", "Traceback", "reload failed"
    )
    one.allow("worker ended: boot")
    one.start()
    for number in range(20):
        assert get(one.address, f"/?{number}").status == 200
    assert one.stop() == 0
    assert len([line for line in lines(one) if line.startswith("span")]) == 20
    nothing_is_left(one)
    one.arguments = ["--check-config"]
    assert one.launch().wait() == 0
    nothing_is_left(one)
    one.arguments = []
    one.options |= {"workers": 2}
    one.write_config()
    one.launch()
    one.wait_for_log("ready: 2 workers of generation 1")
    one.paste.write_text(pipeline("at_exit", file="file", habits=GENTLE, fail_at=7))
    assert one.apidctl("reload", check=False).returncode == 1
    assert one.stop() == 0
    (failed,) = set(pids(one, "loaded")) - set(pids(one, "ended"))
    assert failed == pids(one, "loaded")[6]


@pytest.mark.both_engines(slow=True)
@pytest.mark.parametrize(
    ("habit", "named"),
    [
        ("green", r"exit function hang_in_the_hub \(.*at_exit.py:\d+\) has not ended"),
        ("gil", "at_exit.py.*hang_with_the_gil"),
        ("thread", r"non-daemon threads have not ended within [\d.]+ s: endless"),
        ("job", r"non-daemon threads have not ended within [\d.]+ s: ThreadPoolExecutor"),
    ],
    ids=["green", "gil", "thread", "job"],
)
def test_o6_what_never_ends_is_named_and_not_waited_for(daemon, habit, named):
    it_is_not_waited_for(daemon, habit, named)


@pytest.mark.slow
def test_o6_what_never_ends_and_blocks_the_hub_of_a_trial_too(daemon):
    named = r"exit function hang_natively \(.*at_exit.py:\d+\) has not ended"
    it_is_not_waited_for(daemon, "native", named, reload=True)


def it_is_not_waited_for(daemon, habit, named, *, reload=False):
    habits = f"spans {habit}" if habit in ("thread", "job") else habit
    one = daemon(paste=pipeline("at_exit", file="file", habits=habits), workers=1, graceful_shutdown_timeout=2).start()
    one.allow("ERROR", "exit function", "have not ended", "Timeout", "worker ended", "stalled")
    (pid,) = one.wait_for_workers(1)
    assert get(one.address, "/?1").status == 200
    if reload:
        one.apidctl("reload")
        one.wait_for_workers(1, but=[pid], deadline=20)
    assert one.stop(deadline=20) == 0
    assert not processes.alive(pid)
    assert re.search(named, one.log())
    if "spans" in habits:
        assert "span 1" in lines(one)
        assert set(pids(one, "ended")) >= {pid}
