"""Two daemons never share the path of a UNIX listener, a control socket or a pid file, whenever they start, change and stop."""

from __future__ import annotations

import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import Connection, get
from tests.support.daemon import PROGRAM
from tests.support.processes import wait_until

KINDS = ["listener", "control socket", "pid file"]


@pytest.mark.parametrize("kind", KINDS)
def test_of_several_starts_at_once_one_gets_the_path(kind, tmp_path):
    """In a loop, with what daemons take and without the rest of them: see tests.support.masters."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.masters", kind, str(tmp_path), "60"],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def options(kind, path):
    """Of a daemon that takes `path`."""
    return {
        "listener": {"bind": f"unix:{path}", "bind_port": None},
        "control socket": {"control_socket": path},
        "pid file": {"pid_file": path},
    }[kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_of_eight_daemons_one_serves(daemon, tmp_path, kind):
    for _ in range(3):
        all_of_them = [daemon(paste=pipeline("hello"), workers=1, **options(kind, tmp_path / "path")) for _ in range(8)]
        for one in all_of_them:
            one.launch()
        wait_until(lambda: sum(one.process.poll() is None for one in all_of_them) == 1, "one daemon is left", 60)  # noqa: B023 - now
        (winner,) = [one for one in all_of_them if one.process.poll() is None]
        winner.wait_ready()
        for one in all_of_them:
            if one is not winner:
                assert one.process.returncode == (2 if kind == "pid file" else 3), one.log()
                assert f"process {winner.pid}" in one.log()
        if kind == "control socket":
            winner.control = tmp_path / "path"
            assert winner.status()["pid"] == winner.pid
        assert get(tmp_path / "path" if kind == "listener" else winner.address).status == 200
        assert winner.stop() == 0
        assert [entry for entry in tmp_path.iterdir() if not entry.is_dir()] == []


def refused(daemon, kind, path, by):
    """Start a daemon that must not come to serve at `path`; its reason names the process `by`."""
    other = daemon(paste=pipeline("hello"), workers=1, **options(kind, path)).launch()
    assert other.wait() == (2 if kind == "pid file" else 3), other.log()
    assert f"process {by}" in other.log().splitlines()[-1]


@pytest.mark.parametrize("kind", [KINDS[0], pytest.param(KINDS[1], marks=pytest.mark.slow)])
def test_a_lock_goes_with_its_socket(daemon, tmp_path, kind):
    """It stays over a reload and an upgrade. A reload that gives the path up leaves it to others."""
    path, lock = tmp_path / "path", tmp_path / "path.lock"
    one = daemon(paste=pipeline("hello"), workers=1, **options(kind, path)).start()
    if kind == "control socket":
        one.control = path
    identity = lock.stat().st_ino
    assert lock.read_text() == f"{one.pid}\n"
    for command in ("reload", "upgrade"):
        assert one.ask(command)["ok"]
        assert lock.stat().st_ino == identity
        refused(daemon, kind, path, one.pid)
    code = subprocess.run(
        [PROGRAM, "--config-file", one.config, "--check-config"], cwd=one.directory, check=False, capture_output=True
    ).returncode
    assert code == 0
    path.unlink()  # it is bound again; until then nobody else takes the path
    refused(daemon, kind, path, one.pid)
    one.signal(signal.SIGHUP)
    one.wait_ready(4)
    wait_until(path.exists, "bound again")
    assert lock.stat().st_ino == identity
    one.options |= {"bind": "127.0.0.1:0", "control_socket": one.directory / "ctl"}
    one.write_config()
    assert one.ask("reload")["ok"]
    assert not path.exists()
    assert not lock.exists()
    other = daemon(paste=pipeline("hello"), workers=1, **options(kind, path)).start()
    one.control = one.directory / "ctl"
    one.allow("its file was removed or replaced")
    assert one.stop() == 0
    assert lock.read_text() == f"{other.pid}\n"
    if kind == "control socket":
        other.control = path
    else:
        assert get(path).status == 200
    assert other.ask("status")["ok"]
    assert other.stop() == 0
    assert [entry for entry in tmp_path.iterdir() if not entry.is_dir()] == []


def listens(path):
    """Whether a client can connect."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return False
        return True


def test_after_a_kill_the_path_is_free_while_workers_drain(daemon, tmp_path):
    """They listen no more, hold no lock, and remove nothing of the next daemon's when they leave."""
    path, began = tmp_path / "path", tmp_path / "began"
    one = daemon(paste=pipeline("slow", seconds=3, began=began), workers=1, **options("listener", path)).start()
    (worker,) = one.wait_for_workers(1)
    with Connection(path) as connection:
        connection.sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(began.exists, "a request in flight")
        one.signal(signal.SIGKILL)
        one.wait()
        wait_until(lambda: not listens(path), "the worker listens no more")
        other = daemon(paste=pipeline("hello"), workers=1, **options("listener", path)).start()
        assert processes.alive(worker)
        assert connection.answer().status == 200
    wait_until(lambda: not processes.alive(worker), "the worker has left")
    refused(daemon, "listener", path, other.pid)
    assert get(path).status == 200
    assert other.stop() == 0
    assert [entry.name for entry in tmp_path.iterdir() if not entry.is_dir()] == ["began"]


def test_a_listener_and_the_control_socket_cannot_have_one_path(daemon, tmp_path):
    """In one daemon, whose locks do not exclude each other; and what it had before the reload stays locked."""
    path = tmp_path / "path"
    one = daemon(paste=pipeline("hello"), workers=1, **options("listener", path)).start()
    one.options["control_socket"] = path
    one.write_config()
    answer = one.ask("reload")
    assert not answer["ok"]
    assert "another process listens there" in answer["text"]
    refused(daemon, "listener", path, one.pid)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    one.allow("reload failed")
    assert one.stop() == 0
