"""R13, of what the parent owns on the machine: the pid file, files of sockets, ports. A verdict is true of them, too."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import stat

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import Connection, get
from tests.support.processes import wait_until


def test_r13_the_pid_file_of_another_daemon_fails_the_change(daemon, tmp_path):
    mine, taken = tmp_path / "mine.pid", tmp_path / "taken.pid"
    other = daemon(paste=pipeline("hello"), workers=1, pid_file=taken).start()
    taken_by = taken.stat().st_ino
    one = daemon(paste=pipeline("hello"), workers=1, pid_file=mine).start()
    for path in (taken, tmp_path / "linked.pid"):
        if path != taken:
            os.link(taken, path)
        one.options["pid_file"] = path
        one.write_config()
        answer = one.ask("reload")
        assert not answer["ok"]
        assert f"{path} belongs to the running process {other.pid}" in answer["text"]
    assert int(mine.read_text()) == one.pid
    assert (int(taken.read_text()), taken.stat().st_ino) == (other.pid, taken_by)
    one.allow("reload failed")
    assert other.stop() == 0
    assert one.ask("reload")["ok"]
    assert not mine.exists()
    assert int((tmp_path / "linked.pid").read_text()) == one.pid
    assert one.stop() == 0


def test_r13_a_pid_file_is_held_by_its_daemon_and_by_nobody_else(daemon, tmp_path):
    """Neither a number that another process has now, nor workers that outlive a killed parent, refuse a start."""
    path = tmp_path / "apid.pid"
    path.write_text(f"{os.getpid()}\n")
    began = tmp_path / "began"
    paste = pipeline("slow", seconds=20, began=began)
    one = daemon(paste=paste, workers=1, pid_file=path).start()
    assert int(path.read_text()) == one.pid
    (worker,) = one.wait_for_workers(1)
    with Connection(one.address) as connection:
        connection.sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(began.exists, "a request in flight")
        one.signal(signal.SIGKILL)
        one.wait()
        next_one = daemon(paste=pipeline("hello"), workers=1, pid_file=path).start()
        assert processes.alive(worker), "the worker of the killed parent still drains"
        processes.end(worker)
    assert int(path.read_text()) == next_one.pid
    assert next_one.ask("upgrade")["ok"]
    third = daemon(paste=pipeline("hello"), workers=1, pid_file=path).launch()
    assert third.wait() == 2, "the lock went over the exec"
    assert next_one.stop() == 0
    assert not path.exists()


def test_r13_a_pid_file_that_was_removed_is_written_again(daemon, tmp_path):
    path = tmp_path / "apid.pid"
    one = daemon(paste=pipeline("hello"), workers=1, pid_file=path).start()
    path.unlink()
    assert one.ask("reload")["ok"]
    assert int(path.read_text()) == one.pid
    path.unlink()
    path.write_text("17\n")  # a program without a lock: it holds nothing
    assert one.ask("reload")["ok"]
    assert one.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("command", ["reload", pytest.param("upgrade", marks=pytest.mark.slow)])
def test_r13_a_pid_file_that_was_overwritten_holds_the_number_again(daemon, tmp_path, command):
    path = tmp_path / "apid.pid"
    one = daemon(paste=pipeline("hello"), workers=1, pid_file=path).start()
    for text in ("", "77777777777\n"):
        path.write_text(text)
        assert one.ask(command)["ok"]
        assert path.read_text() == f"{one.pid}\n"
    assert one.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("command", ["reload", "upgrade"])
def test_r13_files_of_sockets_that_were_removed_are_there_again(daemon, tmp_path, command):
    """And who waited in the queue of the old socket is answered, by the old workers or the new ones."""
    path, began = tmp_path / "api.sock", tmp_path / "began"
    one = daemon(
        paste=pipeline("slow", seconds=0.5, began=began), bind=f"unix:{path}", bind_port=None, workers=1, pool_size=1
    ).start()
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(Connection(path, timeout=20)) for _ in range(5)]
        for each in waiting:
            each.sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        wait_until(began.exists, "a request in flight")
        with socket.socket(socket.AF_UNIX) as asker:
            asker.settimeout(60)
            asker.connect(str(one.control))
            path.unlink()
            one.control.unlink()
            asker.sendall(b'{"v": 1, "command": "%s"}\n' % command.encode())
            assert b'"ok": true' in asker.recv(65536)
        assert one.ask("status")["ok"]
        assert get(path).status == 200
        assert [each.answer().status for each in waiting] == [200] * 5
    one.allow("its file was removed or replaced")
    assert one.ask("reload")["ok"]
    assert one.status()["listeners"] == [{**one.status()["listeners"][0], "name": "main", "address": f"unix:{path}"}]
    assert one.stop() == 0
    assert not path.exists()
    assert not one.control.exists()


@pytest.mark.slow
def test_r13_who_asked_on_a_control_socket_that_is_given_up_hears_the_verdict_of_an_upgrade(daemon):
    """The reload ends the socket and not its connections; the upgrade behind it is judged by the next program."""
    one = daemon(paste=pipeline("hello"), workers=1).start()
    address = one.address
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(20)
        asker.connect(str(one.control))
        one.options["control_socket"] = None
        one.write_config()
        asker.sendall(b'{"v": 1, "command": "reload"}\n{"v": 1, "command": "upgrade"}\n')
        with asker.makefile() as answers:
            reloaded, upgraded = (json.loads(answers.readline()) for _ in range(2))
    assert reloaded["text"].startswith("generation 2 is ready")
    assert upgraded["text"].startswith("generation 3 is ready")
    assert reloaded["ok"]
    assert upgraded["ok"]
    assert not one.control.exists()
    assert get(address).status == 200
    assert one.stop() == 0


def test_r13_a_stop_leaves_the_files_that_another_daemon_put_there(daemon, tmp_path):
    path = tmp_path / "api.sock"
    options = {"bind": f"unix:{path}", "bind_port": None, "workers": 1, "control_socket": tmp_path / "ctl"}
    one = daemon(paste=pipeline("hello"), **options).start()
    for name in ("api.sock", "api.sock.lock", "ctl", "ctl.lock"):  # or the other one would not start
        (tmp_path / name).unlink()
    other = daemon(paste=pipeline("hello"), **options).start()
    one.control = other.control = tmp_path / "ctl"
    one.signal(signal.SIGHUP)
    one.wait_for_log(f"reload failed.* another daemon has it: process {other.pid} holds {path}.lock")
    one.allow("reload failed")
    assert one.stop() == 0
    assert get(path).status == 200
    assert other.ask("status")["ok"]
    assert other.stop() == 0
    assert [entry.name for entry in tmp_path.iterdir() if not entry.is_dir()] == []


def addresses(one):
    return [listener["address"] for listener in one.status()["listeners"]]


@pytest.mark.slow
def test_r13_each_port_0_is_a_socket_of_its_own_and_stays(daemon):
    one = daemon(paste=pipeline("hello"), workers=1, bind=["127.0.0.1:0"] * 2, bind_port=None).start()
    two = addresses(one)
    assert len(set(two)) == 2
    for command in ("reload", "upgrade"):
        assert one.ask(command)["ok"]
        assert addresses(one) == two
    one.options["bind"] = ["127.0.0.1:0"] * 3
    one.write_config()
    assert one.ask("reload")["ok"]
    assert addresses(one)[:2] == two
    assert len(set(addresses(one))) == 3
    for address in addresses(one):
        host, port = address.split(":")
        assert get((host, int(port))).status == 200
    one.options["bind"] = ["127.0.0.1:0"]
    one.write_config()
    assert one.ask("reload")["ok"]
    assert addresses(one) == two[:1]
    assert one.stop() == 0


def test_r13_a_host_name_is_served_at_all_its_addresses(daemon):
    """And one listener that loses one of its addresses answers who waits there."""
    one = daemon(paste=pipeline("hello"), workers=1, bind_host="localhost").start()
    hosts = {host for *_, (host, *_) in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    if not pathlib.Path("/proc/net/if_inet6").exists():
        hosts = {host for host in hosts if ":" not in host}
    found = [address.rpartition(":") for address in addresses(one)]
    assert {host.strip("[]") for host, _, _ in found} == hosts
    assert len({port for _, _, port in found}) == 1, "one port for all"
    for host in hosts:
        assert get((host, int(found[0][2]))).status == 200
    assert one.stop() == 0


def test_r13_an_address_that_goes_answers_who_waits_there(daemon, tmp_path):
    """Also where its listener keeps another one, and where another listener has the same spelling."""
    began = tmp_path / "began"
    one = daemon(
        paste=pipeline("slow", seconds=0.5, began=began),
        workers=1,
        pool_size=1,
        bind=["127.0.0.1:0"] * 2,
        bind_port=None,
    ).start()
    kept, going = [("127.0.0.1", int(address.split(":")[1])) for address in addresses(one)]
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(Connection(going, timeout=20)) for _ in range(4)]
        for each in waiting:
            each.sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        wait_until(began.exists, "a request in flight")
        one.options["bind"] = "127.0.0.1:0"
        one.write_config()
        assert one.ask("reload")["ok"]
        assert [each.answer().status for each in waiting] == [200] * 4
    assert get(kept).status == 200
    assert one.stop() == 0


def test_r13_options_of_sockets_apply_to_those_that_are_kept(daemon, tmp_path):
    path = tmp_path / "api.sock"
    one = daemon(
        paste=pipeline("hello"), workers=1, bind=["127.0.0.1:0", f"unix:{path}"], backlog=50, tcp_keepidle=600
    ).start()
    one.options |= {"backlog": 77, "umask": "0117", "workers": 1}
    broken = one.options | {"pid_file": tmp_path / "none" / "x"}
    good, one.options = one.options, broken
    mode = stat.S_IMODE(path.stat().st_mode)
    one.write_config()
    assert not one.ask("reload")["ok"]
    one.allow("reload failed")
    assert (limit(one), stat.S_IMODE(path.stat().st_mode)) == (50, mode)
    one.options = good
    one.write_config()
    assert one.ask("reload")["ok"]
    assert limit(one) == 77
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert get(path).status == 200
    assert one.stop() == 0


def limit(one):
    return one.status()["listeners"][0]["queue"]["limit"]
