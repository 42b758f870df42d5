"""What `Daemon` and the checks after each test do, seen on a small stand-in that speaks in the daemon's words."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from tests.support import processes
from tests.support.client import get
from tests.support.daemon import Daemon, config_text
from tests.support.processes import wait_until

pytestmark = pytest.mark.slow

STAND_IN = """
import os, signal, socket, sys, time
port = None
if os.environ.get("LISTEN_PID") == str(os.getpid()):
    sock = socket.socket(fileno=3)
else:
    sock = socket.create_server(("127.0.0.1", 0))
print("INFO listening on %s:%d (listener main)" % sock.getsockname(), file=sys.stderr, flush=True)
if "ignore" in open(sys.argv[2]).read():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # before the fork, so that the child ignores it from its start
child = os.fork()
if child == 0:
    while True:
        conn, _ = sock.accept()
        with conn:
            conn.recv(65536)
            conn.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
def stop(*_):
    os.kill(child, signal.SIGTERM)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, lambda *_: print("ERROR reload failed: for a test", file=sys.stderr, flush=True))
print("INFO ready: 1 workers of generation 1", file=sys.stderr, flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture
def stand_in(tmp_path):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN, encoding="utf-8")
    return [sys.executable, str(script)]


def test_a_daemon_is_started_asked_and_stopped(daemon, stand_in):
    one = daemon(program=stand_in).start()
    assert get(one.address).text == "ok"
    assert one.addresses() == [f"127.0.0.1:{one.port}"]
    (worker,) = one.wait_for_workers(1)
    assert one.stop() == 0
    wait_until(lambda: not processes.alive(worker), "the worker's end")


def test_inherited_sockets_come_as_systemd_hands_them(daemon, stand_in):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = daemon(program=stand_in, listen={"web": listener}).start()
        assert one.port == listener.getsockname()[1]
        assert get(one.address).text == "ok"
        assert one.stop() == 0


def test_undeclared_trouble_in_the_log_is_an_error(tmp_path, stand_in):
    with Daemon(tmp_path, program=stand_in) as one:
        one.signal(signal.SIGHUP)
        one.wait_for_log("reload failed")
        with pytest.raises(AssertionError, match="ERROR reload failed"):
            one.check_log()
        one.allow("reload failed: for")
        one.check_log()


def test_waiting_for_a_line_that_cannot_come_shows_the_log(tmp_path, stand_in):
    with Daemon(tmp_path, program=stand_in) as one:
        one.stop()
        with pytest.raises(AssertionError, match=r"(?s)ended with 0.*listening on 127.0.0.1"):
            one.wait_for_log("never", deadline=5)


def test_an_orphan_becomes_ours_and_is_seen(daemon, stand_in):
    one = daemon(program=stand_in, word="ignore").start()
    (worker,) = one.wait_for_workers(1)
    assert one.stop() == 0
    assert worker in processes.children()
    assert processes.alive(worker)
    processes.end(worker)


LEAVING = """
import os, socket, subprocess
from tests.conftest import nothing_left
def test_child():
    subprocess.Popen(["sleep", "60"]).returncode = 0
def test_orphan():
    subprocess.run(["sh", "-c", "sleep 60 & "], check=True)
kept = []
def test_socket():
    kept.append(socket.create_server(("127.0.0.1", 0)))
def test_nothing():
    subprocess.run(["true"], check=True)
"""


def test_what_a_test_leaves_behind_fails_it(tmp_path):
    (tmp_path / "test_leaving.py").write_text(LEAVING, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        f"--rootdir={tmp_path}",
    ]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60)
    assert "4 passed, 3 errors" in done.stdout, done.stdout
    assert done.stdout.count("processes left") >= 2
    assert "descriptors left" in done.stdout


def test_the_text_of_a_configuration():
    text = config_text({"workers": 2, "bind": ["a:1", "b:2"]}, {"paste_deploy": {"flavor": "keystone"}})
    assert text == "[DEFAULT]\nworkers = 2\nbind = a:1\nbind = b:2\n\n[paste_deploy]\nflavor = keystone\n"
