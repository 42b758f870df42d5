"""--check-config tries the addresses; what the running daemon of the same configuration holds is no trouble."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess

import pytest

from apid.posix.lockfile import LockFile
from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.daemon import PROGRAM


def check(one):
    """(exit code, standard output, standard error) of a check of the daemon's configuration."""
    done = subprocess.run(
        [str(PROGRAM), "--config-file", str(one.config), "--check-config"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=one.directory,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_daemon_that_runs_with_this_configuration_is_no_trouble(daemon, tmp_path):
    """Known by its control socket, or by its pid file; it notices nothing."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    path = tmp_path / "api.sock"
    one = daemon(
        paste=pipeline("hello"), bind=[f"127.0.0.1:{port}", f"unix:{path}"], pid_file=tmp_path / "pid", workers=1
    ).start()
    assert check(one)[0] == 0, check(one)
    one.options["control_socket"] = None
    one.write_config()
    code, told, _ = check(one)
    assert (code, "Notes" in told) == (0, False)
    one.options["pid_file"] = None
    one.write_config()
    code, told, _ = check(one)
    assert code == 0
    assert f"127.0.0.1:{port}: Address already in use, by process {one.pid} (apid: parent" in told
    one.options["bind"] = f"0.0.0.0:{port}"  # that would fail, whoever has the other one
    one.write_config()
    assert check(one)[0] == 2
    assert get(("127.0.0.1", port)).status == get(path).status == 200
    assert one.stop() == 0


def test_the_daemon_that_took_the_path_is_named_and_not_the_one_that_lost_it(daemon, tmp_path):
    """Both are bound to the path, as far as /proc knows; only one has the file."""
    path = tmp_path / "api.sock"
    one = daemon(paste=pipeline("hello"), bind=f"unix:{path}", workers=1).start()
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        code, _, told = check(one)
        assert code == 2
        assert f"another process listens there, by process {os.getpid()} (" in told
        answer = one.ask("upgrade")
        assert not answer["ok"]
        assert f"by process {os.getpid()} (" in answer["text"]
    one.allow("upgrade failed")
    path.unlink()
    assert one.stop() == 0


@pytest.mark.parametrize("kind", ["tcp", "unix", "name", "file", "directory", "other machine"])
def test_an_address_that_cannot_be_had_is_named_with_option_and_place(daemon, tmp_path, kind):
    listening = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    with listening as sock:
        sock.bind(str(tmp_path / "taken") if kind == "unix" else ("127.0.0.1", 0))
        sock.listen()
        (tmp_path / "file").write_text("dear")
        bind, reason = {
            "tcp": (f"127.0.0.1:{sock.getsockname()[1]}", "Address already in use, by process"),
            "unix": (f"unix:{tmp_path / 'taken'}", "another process listens there, by process"),
            "name": ("no-such-host.invalid:80", "'no-such-host.invalid' is no address"),
            "file": (f"unix:{tmp_path / 'file'}", "the path exists and is not a socket"),
            "directory": (f"unix:{tmp_path / 'none' / 'sock'}", "there is no directory"),
            "other machine": ("192.0.2.1:8080", "Cannot assign requested address"),
        }[kind]
        one = daemon(paste=pipeline("hello"), listeners="admin", sections={"listener:admin": {"bind": bind}})
        code, _, told = check(one)
        assert code == 2
        line = one.config.read_text().splitlines().index(f"bind = {bind}") + 1
        assert f"{one.config}:{line}: [listener:admin] bind: cannot listen on {bind}: " in told
        assert reason in told
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.accept()
    assert (tmp_path / "file").read_text() == "dear"
    assert not pathlib.Path(one.control).exists()


def test_a_process_that_listens_on_both_families_is_named(daemon):
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as sock:
        one = daemon(paste=pipeline("hello"), bind_port=sock.getsockname()[1])
        code, _, told = check(one)
    assert code == 2
    assert f"Address already in use, by process {os.getpid()} (" in told


def test_another_daemon_there_is_trouble(daemon):
    other = daemon(paste=pipeline("hello"), workers=1).start()
    one = daemon(paste=pipeline("hello"), bind_port=other.port)
    code, _, told = check(one)
    assert code == 2
    assert f"by process {other.pid} (apid: parent" in told
    assert f"{one.config}:2: [DEFAULT] bind_port: " in told
    assert other.stop() == 0


def test_a_path_that_another_daemon_is_about_to_take_is_trouble(daemon, tmp_path):
    """It holds the lock and does not listen yet; the check itself locks nothing."""
    path = tmp_path / "api.sock"
    lock = LockFile(f"{path}.lock")
    one = daemon(paste=pipeline("hello"), bind=f"unix:{path}")
    code, _, told = check(one)
    assert code == 2
    assert f"another daemon has it: process {os.getpid()} holds {path}.lock" in told
    lock.remove()
    assert check(one)[0] == 0
    assert not path.exists()
    assert not pathlib.Path(f"{path}.lock").exists()
