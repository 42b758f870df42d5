"""R16, preload: one load a generation, workers forked from the mold, and no other code for as long as the generation lives."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import socket

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.preloaded import APPLICATION, loads
from tests.support.processes import wait_until

UNSAFE = {
    "thread": (
        "import threading\ndef work():\n    threading.Event().wait()\nthreading.Thread(target=work, daemon=True).start()",
        "a native thread",
    ),
    "connection": (
        "import socket, os; kept = socket.create_connection(('127.0.0.1', int(os.environ['PEER'])))",
        "a connection to",
    ),
    "epoll": ("import asyncio; kept = asyncio.new_event_loop()", "an epoll descriptor"),
    "database": (
        (
            "import sqlite3, pathlib; kept = sqlite3.connect(pathlib.Path(__file__).with_name('data')); "
            "kept.execute('create table if not exists a (b)'); kept.commit()"
        ),
        "an open SQLite database",
    ),
    "process": ("import subprocess; kept = subprocess.Popen(['cat'], stdin=subprocess.PIPE)", "a child process"),
    "timer": ("import signal; signal.setitimer(signal.ITIMER_PROF, 1000)", "a timer of setitimer (ITIMER_PROF)"),
    "lock": (
        "import fcntl, pathlib; kept = open(pathlib.Path(__file__).with_name('lock'), 'w'); fcntl.lockf(kept, fcntl.LOCK_EX)",
        "a lock of fcntl on the file",
    ),
}


def answers(one) -> tuple[str, int]:
    version, pid = get(one.address).text.split()
    return version, int(pid)


@pytest.mark.both_engines
def test_a_generation_is_loaded_once_and_a_killed_worker_runs_what_it_loaded(preloading):
    one = preloading(workers=3).start()
    one.allow("worker ended: crash:SIGKILL")
    assert loads(one) == 1
    (one.directory / "loaded.py").write_text("this is broken", encoding="utf-8")
    before = one.wait_for_workers(3)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    one.wait_for_workers(3, but=before)
    wait_until(lambda: one.status()["ready"] == 3, "all are ready again")
    assert {answers(one)[0] for _ in range(6)} == {"first"}
    assert loads(one) == 1
    assert one.stop() == 0


@pytest.mark.slow  # workers that live shortly are replaced after a pause
def test_its_number_of_workers_stays_full_over_ten_kills_and_a_broken_disk(preloading):
    one = preloading(workers=4).start()
    one.allow("worker ended: crash:SIGKILL", "short lives")
    (one.directory / "loaded.py").unlink()
    one.paste.write_text("[app:main]\nuse = egg:is_being_replaced\n", encoding="utf-8")
    for kill in range(10):
        pids = one.wait_for_workers(4)
        os.kill(pids[kill % 4], signal.SIGKILL)
        one.wait_for_workers(4, but=[pids[kill % 4]], deadline=30)
        wait_until(lambda: one.status()["ready"] == 4, "all are ready again")
    assert {answers(one)[0] for _ in range(12)} == {"first"}
    assert loads(one) == 1
    assert one.stop() == 0


@pytest.mark.both_engines(slow=True)
def test_a_reload_costs_one_load(preloading):
    one = preloading(workers=3).start()
    (mold,) = one.mold_pids()
    text = APPLICATION.replace('"first"', '"the second"'.replace(" ", "-"))
    (one.directory / "loaded.py").write_text(text, encoding="utf-8")
    one.apidctl("reload")
    assert answers(one)[0] == "the-second"
    assert loads(one) == 2
    wait_until(lambda: len(one.mold_pids()) == 1, "the mold of the old generation has ended")
    assert one.mold_pids() != [mold]
    assert one.stop() == 0


def test_a_reload_that_fails_leaves_the_mold_as_it_was(preloading):
    one = preloading().start()
    one.allow("reload failed", "Traceback")
    (mold,) = one.mold_pids()
    (one.directory / "loaded.py").write_text("raise RuntimeError('not today')", encoding="utf-8")
    done = one.apidctl("reload", check=False)
    assert done.returncode != 0
    assert "not today" in done.stderr
    assert one.mold_pids() == [mold]
    (pid, _) = one.wait_for_workers(2)
    one.allow("worker ended: crash:SIGKILL")
    os.kill(pid, signal.SIGKILL)
    one.wait_for_workers(2, but=[pid])
    assert answers(one)[0] == "first"
    assert one.stop() == 0


def lose_the_mold(one):
    (mold,) = one.mold_pids()
    os.kill(mold, signal.SIGKILL)
    one.wait_for_log(rf"the mold of generation 1 \(pid {mold}\) ended: signal 9")


def test_the_next_worker_that_is_needed_makes_a_new_mold(preloading):
    one = preloading().start()
    one.allow("worker ended: crash:SIGKILL")
    lose_the_mold(one)
    before = one.wait_for_workers(2)
    assert one.status()["degraded"] is False
    assert loads(one) == 1
    os.kill(before[0], signal.SIGKILL)
    one.wait_for_workers(2, but=before[:1])
    assert loads(one) == 2
    assert len(one.mold_pids()) == 1
    assert one.stop() == 0


@pytest.mark.parametrize("disk", ["changed", "broken"])
def test_a_generation_gets_no_worker_of_other_code(preloading, disk):
    one = preloading().start()
    one.allow("worker ended: crash:SIGKILL", "generation 1 gets no new workers", "Traceback")
    text = APPLICATION.replace('"first"', '"other"') if disk == "changed" else "raise RuntimeError('half written')"
    (one.directory / "loaded.py").write_text(text, encoding="utf-8")
    lose_the_mold(one)
    (pid, other) = one.wait_for_workers(2)
    os.kill(pid, signal.SIGKILL)
    one.wait_for_log("generation 1 gets no new workers: .*; reload")
    told = one.status()
    assert told["degraded"] is True
    assert told["line"].endswith("degraded: reload")
    assert told["outdated"]
    assert {answers(one) for _ in range(4)} == {("first", other)}
    (one.directory / "loaded.py").write_text(APPLICATION.replace('"first"', '"mended"'), encoding="utf-8")
    one.apidctl("reload")
    assert one.status()["degraded"] is False
    assert answers(one)[0] == "mended"
    assert one.stop() == 0


ONCE = """
if not (HERE / "made").exists():
    import wave  # what makes the database, say: needed at the first start only
    (HERE / "made").touch()
"""


def test_what_is_imported_at_the_first_start_only_is_no_other_code(preloading):
    one = preloading(ONCE).start()
    one.allow("worker ended: crash:SIGKILL", "the mold of generation 1")
    lose_the_mold(one)
    before = one.wait_for_workers(2)
    os.kill(before[0], signal.SIGKILL)
    one.wait_for_workers(2, but=before[:1])
    assert one.status()["outdated"] is None
    assert loads(one) == 2
    assert one.stop() == 0


@pytest.mark.slow  # it is given ten seconds
def test_a_mold_that_does_not_fork_is_replaced(preloading):
    one = preloading(workers=1).start()
    one.allow("worker ended: crash:SIGKILL")
    (mold,) = one.mold_pids()
    os.kill(mold, signal.SIGSTOP)
    (pid,) = one.wait_for_workers(1)
    os.kill(pid, signal.SIGKILL)
    one.wait_for_log("it has not forked a worker within 10 s", 20)
    one.wait_for_workers(1, but=[pid])
    assert answers(one)[0] == "first"
    assert one.stop() == 0


@pytest.mark.both_engines
@pytest.mark.parametrize("what", UNSAFE)
def test_what_processes_cannot_share_is_named_with_its_place(preloading, what, engine):
    statement, named = UNSAFE[what]
    if (what, engine) == ("epoll", "eventlet"):
        named = "a connection to another UNIX socket"  # there is no epoll: it is eventlet's
    if (what, engine) == ("thread", "eventlet"):
        statement = statement.replace(
            "import", "import eventlet.patcher; threading = eventlet.patcher.original('threading') #"
        )
    with socket.create_server(("127.0.0.1", 0)) as peer:
        one = preloading(f"\n{statement}\n", environment={"PEER": str(peer.getsockname()[1])})
        one.allow("CRITICAL")
        assert one.launch().wait() == 2
    log = one.log()
    assert named in log, log
    assert "preload = on: processes cannot share what was opened while loading" in log
    if what in ("connection", "thread", "process"):
        assert re.search(r"loaded\.py:\d+ \((<module>|work)\)", log), log


def test_a_green_thread_is_named_with_its_place(preloading):
    one = preloading(
        "\nimport eventlet\ndef serve():\n    eventlet.sleep(60)\neventlet.spawn(serve)\neventlet.sleep(0)\n"
    )
    one.allow("CRITICAL")
    assert one.launch().wait() == 2
    assert "a green thread that waits at" in one.log()


def test_an_application_that_is_not_fork_safe_is_loaded_by_each_worker(preloading):
    one = preloading("\nimport asyncio\nkept = asyncio.new_event_loop()\n", preload="auto", workers=2).start()
    one.wait_for_log("preload = auto: each worker loads the application by itself, .*a connection")
    assert loads(one) == 3
    assert one.mold_pids() == []
    before = one.wait_for_workers(2)
    one.allow("worker ended: crash:SIGKILL")
    os.kill(before[0], signal.SIGKILL)
    one.wait_for_workers(2, but=before[:1])
    assert one.stop() == 0
    assert len(re.findall("each worker loads the application by itself", one.log())) == 1


@pytest.mark.both_engines
@pytest.mark.parametrize("preload", ["on", "off"])
def test_the_functions_of_the_application_are_called(preloading, preload):
    hooks = {name: f"loaded:{name}" for name in ("after_load", "after_fork", "before_exit")}
    one = preloading(preload=preload, workers=1, **hooks).start()
    assert one.stop() == 0
    told = (one.directory / "hooks").read_text(encoding="utf-8").splitlines()
    slot = -1 if preload == "on" else 0
    assert told == [f"after_load {slot} 1 True", "after_fork 0 1 True", "before_exit 0 1 True"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("loaded:absent", "has no attribute 'absent'"),
        ("absent:x", "No module named 'absent'"),
        ("loaded:VERSION", "it is no function"),
    ],
)
def test_a_function_that_is_not_there_ends_the_start(preloading, name, error):
    one = preloading(after_fork=name)
    one.allow("CRITICAL")
    assert one.launch().wait() == 2
    assert re.search(rf"apid\.conf:\d+: \[DEFAULT\] after_fork = {name}: .*{error}", one.log()), one.log()


@pytest.mark.slow
@pytest.mark.both_engines(slow=True)
def test_r1_no_request_is_lost_over_reloads_and_a_lost_mold(recording, load, say):
    one = recording(workers=2, preload="on").start()
    with load(one, mode="mix", connections=16, processes=1) as running:
        for _ in range(3):
            one.apidctl("reload")
        os.kill(one.mold_pids()[0], signal.SIGKILL)
        one.apidctl("reload")
        figures = running.stop()
    say(str(figures))
    assert figures.errors == 0, figures
    assert one.stop() == 0


@pytest.mark.slow
def test_an_upgrade_keeps_the_pid_and_makes_a_mold(preloading):
    one = preloading().start()
    one.apidctl("upgrade")
    told = one.status()
    assert (told["pid"], told["generation"]) == (one.pid, 2)
    wait_until(lambda: [mold["generation"] for mold in one.status()["molds"]] == [2], "the old mold has ended")
    one.allow("worker ended: crash:SIGKILL")
    (pid, _) = one.wait_for_workers(2)
    os.kill(pid, signal.SIGKILL)
    one.wait_for_workers(2, but=[pid])
    assert answers(one)[0] == "first"
    assert one.stop() == 0


def test_everybody_leaves_when_the_parent_is_killed(preloading):
    one = preloading().start()
    pids = [*one.mold_pids(), *one.wait_for_workers(2)]
    one.process.kill()
    one.process.wait()
    wait_until(lambda: not any(map(processes.alive, pids)), "mold and workers have ended", 5)


def test_a_worker_holds_nothing_of_its_mold(preloading):
    one = preloading(workers=1).start()
    (mold,), (pid,) = one.mold_pids(), one.wait_for_workers(1)
    listening = [name for name in processes.descriptors(mold).values() if name in _listening(one)]
    assert listening == []
    shared = {n for n in processes.descriptors(mold).values() if n.startswith(("socket:", "anon_inode:[eventpoll]"))}
    mine = {n for n in processes.descriptors(pid).values() if n.startswith("socket:")}
    assert not mine & shared
    assert one.stop() == 0


def _listening(one) -> set[str]:
    text = pathlib.Path("/proc/net/tcp").read_text(encoding="ascii")
    lines = [line.split() for line in text.splitlines()[1:]]
    return {f"socket:[{line[9]}]" for line in lines if line[3] == "0A" and int(line[1].split(":")[1], 16) == one.port}


def test_check_config_says_which_it_will_be(preloading):
    one = preloading()
    assert "The application is loaded once, and workers are forked from there." in checked(one)
    one.options["preload"] = "auto"
    one.write_config()
    (one.directory / "loaded.py").write_text(
        APPLICATION + "\nimport asyncio\nkept = asyncio.new_event_loop()\n", encoding="utf-8"
    )
    text = checked(one)
    assert "Each worker loads the application by itself: it is not fork-safe." in text
    assert "a connection to another UNIX socket" in text


def checked(one) -> str:
    one.arguments = ["--check-config"]
    one.log_path.unlink(missing_ok=True)
    assert one.launch().wait() == 0
    return one.log()


def test_the_default_api_is_fork_safe(daemon):
    one = daemon(preload="on", workers=2).start()
    assert get(one.address).status == 300
    assert one.stop() == 0


def test_an_application_that_takes_what_a_worker_needs_is_still_held_off(daemon):
    one = daemon(
        paste=pipeline("changing", changes="signals_default mask wakeup default_timeout"), preload="on"
    ).start()
    assert get(one.address).status == 200
    one.apidctl("reload")
    assert get(one.address).status == 200
    assert one.stop() == 0
