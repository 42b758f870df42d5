"""H11: an exception that nobody foresaw costs what was being done, never the daemon.

What is done here to a real daemon made one die. Each is a change that fails with its reason, or succeeds, while the old workers
serve on.
"""

from __future__ import annotations

import os
import pathlib
import resource
import shutil
import signal
import socket
import sys
import textwrap

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.processes import wait_until


def reload(one, *, by_signal=False):
    """Reload by the control socket, or by HUP; returns the verdict of the status document."""
    before = sum(one.status()["changes"]["reload"].values()) if not by_signal else len(verdicts(one))
    if by_signal:
        one.signal(signal.SIGHUP)
        wait_until(lambda: len(verdicts(one)) > before, "the verdict", 30)
        return verdicts(one)[-1]
    answer = one.ask("reload")
    assert sum(one.status()["changes"]["reload"].values()) == before + 1
    assert one.status()["last_change"]["ok"] is answer["ok"]
    return answer["text"] if not answer["ok"] else "ok"


def verdicts(one):
    lines = [line for line in one.log().splitlines() if " reload failed" in line or "is ready (" in line]
    return ["ok" if "is ready (" in line else line for line in lines]


def serves(one, workers, address):
    wait_until(lambda: one.worker_pids() == workers, "the same workers, and no other child")
    assert get(address).status == 200


def locked_folder(one):
    (one.directory / "locked").mkdir(mode=0)
    one.options["access_log"] = one.directory / "locked/sub/a"
    return "access_log"


def link_to_itself(one):
    (one.directory / "loop").symlink_to("loop")
    one.options["access_log"] = one.directory / "loop/a"
    return "access_log"


def log_dir_loop(one):
    (one.directory / "loop2").symlink_to("loop2")
    one.options["log_dir"] = one.directory / "loop2/a"
    return "log_dir"


def huge_group(one):
    one.options["group"] = "99999999999999999999"
    return "group"


def huge_user(one):
    one.options["user"] = "9" * 5000
    return "user"


def superscript_group(one):
    one.options["group"] = "²"
    return "group"


def nobodys_home(one):
    one.options["access_log"] = "~no-such-user-here/a"
    return "access_log"


def null_in_a_path(one):
    one.options["pid_file"] = one.directory / "a\0b"
    return "NUL"


def pid_file_of_23_digits(one):
    (one.directory / "pid").write_text("9" * 23 + "\n")
    one.options["pid_file"] = one.directory / "pid"
    return


def pid_file_is_nonsense(one):
    (one.directory / "pid2").write_bytes(b"\xff\xfe\x00-1")
    one.options["pid_file"] = one.directory / "pid2"
    return


INPUTS = [
    locked_folder,
    link_to_itself,
    log_dir_loop,
    huge_group,
    huge_user,
    superscript_group,
    nobodys_home,
    null_in_a_path,
    pid_file_of_23_digits,
    pid_file_is_nonsense,
]


@pytest.mark.slow
def test_h11_odd_inputs_of_a_reload(daemon):
    """One daemon goes through all: each reload fails with the option's name, or succeeds where None is expected."""
    one = daemon(paste=pipeline("hello"), workers=1).start()
    address = one.address
    good = dict(one.options)
    for case in INPUTS:
        workers = one.worker_pids()
        one.options = dict(good)
        named = case(one)
        one.write_config()
        said = reload(one)
        if named is None:
            assert said == "ok", (case, said)
        else:
            assert named in said, (case, said)
            assert "Traceback" not in said, (case, said)
            serves(one, workers, address)
    one.options = good
    one.write_config()
    assert reload(one) == "ok"
    one.allow("reload failed")


@pytest.mark.parametrize(
    ("option", "value"), [("group", "99999999999999999999"), ("user", "9" * 5000), ("access_log", "~nobody-here/a")]
)
def test_h11_odd_inputs_of_a_start(daemon, option, value):
    one = daemon(paste=pipeline("hello"), **{option: value}).launch()
    assert one.wait() == 2
    assert f"[DEFAULT] {option} = " in one.log()
    assert "Traceback" not in one.log()


def test_h11_a_pid_file_with_a_huge_number_is_no_process(daemon, tmp_path):
    (tmp_path / "pid").write_text("9" * 23 + "\n")
    one = daemon(paste=pipeline("hello"), workers=1, pid_file=tmp_path / "pid").start()
    assert (tmp_path / "pid").read_text() == f"{one.pid}\n"


@pytest.mark.slow
def test_h11_the_working_directory_is_removed(daemon, tmp_path):
    """Relative paths of the command line start from the directory of the start, which may go, and come again."""
    one = daemon(
        paste=pipeline("hello"), workers=1, arguments=["--config-file", "more/b.conf", "--access-log", "access"]
    )
    work = tmp_path / "work"
    (work / "more").mkdir(parents=True)
    (work / "more/b.conf").write_text("[DEFAULT]\nbacklog = 100\n")
    one.working_directory = work
    one.start()
    address, workers = one.address, one.worker_pids()
    shutil.rmtree(work)
    for by_signal in (False, True):
        said = reload(one, by_signal=by_signal)
        assert str(work / "more/b.conf") in said
        serves(one, workers, address)
    answer = one.ask("upgrade")
    assert not answer["ok"]
    serves(one, workers, address)
    (work / "more").mkdir(parents=True)
    (work / "more/b.conf").write_text("[DEFAULT]\nbacklog = 100\n")
    assert reload(one) == "ok"
    assert one.ask("upgrade")["ok"]
    assert reload(one) == "ok"
    assert get(address).status == 200
    one.allow("reload failed", "upgrade failed")


@pytest.mark.slow
def test_h11_a_start_in_a_directory_that_is_gone(daemon, tmp_path):
    """Absolute paths have a meaning there."""
    gone = tmp_path / "gone"
    gone.mkdir()
    one = daemon(
        paste=pipeline("hello"), workers=1, program=["sh", "-c", f'rmdir {gone}; exec {daemon_program()} "$@"', "sh"]
    )
    one.working_directory = gone
    one.start()
    assert get(one.address).status == 200
    assert reload(one) == "ok"
    assert one.ask("upgrade")["ok"]


def daemon_program():
    from tests.support.daemon import PROGRAM

    return PROGRAM


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 1, 2, 3, 4])
def test_h11_the_descriptor_table_is_full(daemon, free):
    """A reload fails with its reason, a dead worker is replaced once there is room again, and the parent does not spin."""
    one = daemon(paste=pipeline("hello"), workers=1).start()
    address, (worker,) = one.address, one.worker_pids()
    before = processes.descriptors(one.pid)
    usual = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
    lowest = next(number for number in range(1000) if number not in before)
    taken = [number for number in range(lowest, lowest + 100) if number not in before]
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (taken[free], usual[1]))
    said = reload(one, by_signal=True)
    if free < 3:
        assert "reload failed" in said
        serves(one, [worker], address)
    (worker,) = one.wait_for_workers(1)
    one.signal(signal.SIGUSR2)
    one.wait_for_log("upgrade failed, generation")
    used = processes.cpu_seconds(one.pid)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(one.control))
        os.kill(worker, signal.SIGKILL)
        if free < 2:  # its end gives two back
            one.wait_for_log("cannot fork a worker: ", count=2)
            assert processes.cpu_seconds(one.pid) - used < 1
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, usual)
    one.wait_for_workers(1, but=[worker])
    wait_until(lambda: one.status()["ready"] == 1, "a worker is ready", 20)
    assert reload(one) == "ok"
    assert get(address).status == 200
    # the kinds of what is open: numbers of pipes and sockets are others now
    kinds = sorted(target.partition(":")[0] for target in before.values())
    wait_until(
        lambda: sorted(target.partition(":")[0] for target in processes.descriptors(one.pid).values()) == kinds,
        "no descriptor is lost",
    )
    one.allow("ERROR")
    one.allow("Traceback")


@pytest.mark.slow
def test_h11_the_virtualenv_is_moved_away_or_half_there(daemon, tmp_path):
    """A deploy in progress: a reload is refused with the reason, the old workers serve, and afterwards it works."""
    site = tmp_path / "site"
    ours = pathlib.Path(next(path for path in sys.path if path.endswith("site-packages")))
    site.mkdir()
    for name in ("apid", "apid.egg-info"):
        if (pathlib.Path(__file__).parents[2] / name).exists():
            shutil.copytree(pathlib.Path(__file__).parents[2] / name, site / name)
    for entry in ours.iterdir():
        if not entry.name.startswith(("__editable__", "apid")) and not entry.name.endswith(".pth"):
            (site / entry.name).symlink_to(entry)
    script = tmp_path / "apid"
    script.write_text("from apid.cli.main import apid\nraise SystemExit(apid())\n")
    one = daemon(
        paste="[app:main]\npaste.app_factory = apps:factory\n",
        workers=1,
        program=[sys.executable, "-S", str(script)],
        environment={"PYTHONPATH": f"{site}"},
    )
    (one.directory / "apps.py").write_text(
        "def factory(global_conf):\n    return lambda e, s: (s('200 OK', []), [b'x'])[1]\n"
    )
    one.start()
    address, workers = one.address, one.worker_pids()
    site.rename(tmp_path / "away")
    for by_signal in (False, True):
        said = reload(one, by_signal=by_signal)
        assert "No module named" in said, said
        serves(one, workers, address)
    assert not one.ask("upgrade")["ok"]
    serves(one, workers, address)
    (tmp_path / "away").rename(site)
    for part in ("eventlet", "greenlet", "paste", "setproctitle", "oslo_config", "apid.egg-info", "apid/server"):
        if not (site / part).exists():
            continue
        (site / part).rename(tmp_path / "part")
        said = reload(one)
        if said != "ok":
            serves(one, workers, address)
        else:
            workers = one.wait_for_workers(1)
        assert said == "ok" or "failed, generation" in said
        (tmp_path / "part").rename(site / part)
    assert reload(one) == "ok"
    assert get(address).status == 200
    one.allow("reload failed", "upgrade failed", "Traceback")


IMPORTS = """
import atexit, os, sys
def note(event, arguments):
    if event == "import" and os.environ.get("IMPORTS"):
        fd = os.open(os.environ["IMPORTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{os.getpid()} {arguments[0]}\\n".encode())
        os.close(fd)
sys.addaudithook(note)
"""


def test_h11_the_parent_imports_nothing_after_its_start(daemon, tmp_path):
    """What is installed may be replaced underneath: a reload, a refused one, a refused upgrade, status, reopen, dump, scale."""
    one = daemon(paste=pipeline("hello"), workers=1, environment={"IMPORTS": str(tmp_path / "imports")}, bind_port=None)
    one.options["bind"] = f"unix:{one.directory}/app"
    (one.directory / "sitecustomize.py").write_text(textwrap.dedent(IMPORTS))
    one.write_config()
    one.start()

    def imported():
        lines = (tmp_path / "imports").read_text().splitlines()
        return [line.split()[1] for line in lines if line.startswith(f"{one.pid} ")]

    known = set(imported())
    assert "apid.parent.loop" in known
    one.options["bind"] = [f"unix:{one.directory}/app", "localhost:0"]
    one.write_config()
    assert one.ask("reload")["ok"]
    good = one.paste.read_text()
    one.paste.write_text("[app:main\n")
    assert not one.ask("reload")["ok"]
    assert not one.ask("upgrade")["ok"]
    one.paste.write_text(good)
    one.config.write_bytes(b"\xff\xfe")
    assert not one.ask("reload")["ok"]
    one.options["bakclog"] = "1"
    one.options["workers"] = "many"
    one.write_config()
    assert not one.ask("reload")["ok"]
    for command in ("status", "reopen", "dump"):
        assert one.ask(command)["ok"]
    assert one.ask("scale", number=2)["ok"]
    assert not one.ask("scale", number=0)["ok"]
    (victim, _) = one.worker_pids()
    os.kill(victim, signal.SIGSEGV)
    one.wait_for_log("worker ended: crash:SIGSEGV")
    one.wait_for_workers(2, but=[victim])
    assert set(imported()) - known == set()
    one.allow("ERROR", "Traceback", "Fatal Python error")


@pytest.mark.slow
def test_h11_more_listeners_than_the_bulletin_holds(daemon, tmp_path):
    """What is published says how much of it is left out; 2 400 listeners once ended the daemon."""
    one = daemon(paste=pipeline("status"), workers=1, bind_port=None)
    names = "x" * (100 - len(str(tmp_path)) - 6)
    one.options["bind"] = ["127.0.0.1:0", *(f"unix:{tmp_path}/{names}{number}" for number in range(2400))]
    one.write_config()
    one.program = ["sh", "-c", f'ulimit -n 8192; exec {daemon_program()} "$@"', "sh"]
    one.start()
    told = one.status()
    assert told["listeners_omitted"] + len(told["listeners"]) == 2401
    assert told["listeners_omitted"] > 0
    assert get(one.address).status == 200
    assert reload(one) == "ok"


def test_h11_a_mold_that_blocks_before_it_loads_dies_with_the_parent(daemon, tmp_path):
    """The first thing that a mold does may block for ever, an open of a FIFO for instance; an orphan would hold the port."""
    os.mkfifo(tmp_path / "fifo")
    site = """
        import os
        from apid.worker import boot
        def blocked(_):
            os.open(os.environ["FIFO"], os.O_RDONLY)
        if os.environ.get("FIFO"):
            kept = boot.run
            boot.run = lambda ticket, **more: blocked(ticket) if ticket.generation == 2 else kept(ticket, **more)
    """
    one = daemon(paste=pipeline("hello"), workers=1, environment={"FIFO": str(tmp_path / "fifo")})
    (one.directory / "sitecustomize.py").write_text(textwrap.dedent(site))
    one.start()
    one.signal(signal.SIGHUP)
    one.wait_for_log("generation 2 is being prepared")
    wait_until(lambda: len(processes.children(one.pid)) == 3, "a worker, its mold and the new one")
    children = processes.children(one.pid)
    one.signal(signal.SIGKILL)
    one.wait()
    wait_until(lambda: not any(map(processes.alive, children)), "all are gone", 10)
