"""The pid file, and systemd's two protocols at a socket of our own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

import pytest

from apid.errors import ConfigError
from apid.posix import processes, systemd
from apid.posix.lockfile import holder
from apid.posix.pidfile import PidFile


def test_a_pid_file_holds_the_pid_and_goes_with_it(tmp_path):
    path = tmp_path / "pid"
    one = PidFile(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["pid"]
    one.remove()
    assert not path.exists()
    one.remove()


@pytest.mark.parametrize("text", ["alive", "0", "-1", "1", "9" * 23, "not a number", "", "\0\xff", "x" * 100_000])
def test_a_stale_or_senseless_one_is_replaced(tmp_path, text):
    """A number says nothing: in a container that starts again any other process has it."""
    path = tmp_path / "pid"
    path.write_text(str(os.getppid()) if text == "alive" else text, encoding="latin-1")
    one = PidFile(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    one.remove()
    assert not path.exists()


def test_a_link_is_replaced_and_not_followed(tmp_path):
    dear, path = tmp_path / "dear", tmp_path / "pid"
    dear.write_text("dear")
    path.symlink_to(dear)
    one = PidFile(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    assert not path.is_symlink()
    one.remove()
    assert [entry.name for entry in tmp_path.iterdir()] == ["dear"]
    assert dear.read_text() == "dear"


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_file_is_named_and_left(tmp_path, kind):
    path = tmp_path / "pid"
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    with pytest.raises(ConfigError, match=rf"pid_file: cannot write {path}: "):
        PidFile(str(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["pid"]


HOLD = """
import os, sys
from apid.posix.lockfile import holder
from apid.posix.pidfile import PidFile
one = PidFile(sys.argv[1])
if sys.argv[2] == "leaves a child":
    if os.fork():
        os._exit(0)
    sys.stdout.close()
elif sys.argv[2] == "execs":
    os.set_inheritable(one.fd, True)
    code = "import sys; from apid.posix.pidfile import PidFile; PidFile(sys.argv[1], int(sys.argv[2])); print(); input()"
    os.execv(sys.executable, [sys.executable, "-c", code, sys.argv[1], str(one.fd)])
print(flush=True)
input()
"""


@contextlib.contextmanager
def held(path, how):
    """A process that holds the pid file; `how` it came to that."""
    command = [sys.executable, "-c", HOLD, str(path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.stdin.close()


@pytest.mark.parametrize("how", ["plainly", "execs"])
def test_one_that_a_running_daemon_holds_is_respected(tmp_path, how):
    path = tmp_path / "pid"
    with held(path, how) as process:
        with pytest.raises(ConfigError, match=f"pid_file: .* belongs to the running process {process.pid}"):
            PidFile(str(path))
        assert path.read_text() == f"{process.pid}\n"
        assert holder(str(path)) == process.pid
    assert holder(str(path)) is None
    PidFile(str(path)).remove()


def test_the_child_of_a_daemon_that_is_gone_holds_nothing(tmp_path):
    """A worker that drains after a kill -9 of its parent: the next start is not refused."""
    path = tmp_path / "pid"
    with held(path, "leaves a child") as process:
        process.wait(10)
        PidFile(str(path)).remove()


@pytest.mark.parametrize("meanwhile", ["removed", "replaced"])
def test_one_that_was_removed_or_replaced_is_known_as_such(tmp_path, meanwhile):
    path = tmp_path / "pid"
    one = PidFile(str(path))
    assert one.is_at(str(path))
    path.unlink()
    if meanwhile == "replaced":
        path.write_text(f"{os.getpid()}\n")
    assert not one.is_at(str(path))
    one.remove()
    assert path.exists() == (meanwhile == "replaced")


def test_one_that_another_took_over_is_left_to_it(tmp_path):
    path = tmp_path / "pid"
    one = PidFile(str(path))
    path.write_text("1\n")
    one.remove()
    assert path.read_text() == "1\n"


def test_a_forked_child_does_not_remove_it(tmp_path):
    path = tmp_path / "pid"
    one = PidFile(str(path))

    def child():
        one.remove()
        os._exit(0)

    assert processes.wait(processes.fork(child)) == 0
    assert path.exists()
    one.remove()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"pid_file: cannot write .*none/pid: No such file"):
        PidFile(str(tmp_path / "none" / "pid"))


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    name = f"@apid-unit-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if request.param == "abstract" else name)
        sock.settimeout(5)
        yield name, sock


def test_lines_arrive_in_one_message_and_descriptors_with_them(manager):
    name, sock = manager
    environ = {"NOTIFY_SOCKET": name, "OTHER": "1"}
    notifier = systemd.Notifier(environ)
    assert environ == {"OTHER": "1"}, "what is started from here cannot speak in our name"
    assert notifier.send("READY=1", "STATUS=well")
    assert sock.recv(1000) == b"READY=1\nSTATUS=well"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert notifier.send("FDSTORE=1", "FDNAME=x", fds=[listener.fileno()])
        data, fds, _, _ = socket.recv_fds(sock, 1000, 4)
        assert data == b"FDSTORE=1\nFDNAME=x"
        with socket.socket(fileno=fds[0]) as received:
            assert received.getsockname() == listener.getsockname()


def test_a_full_queue_costs_little_and_a_manager_that_is_gone_nothing(manager):
    name, sock = manager
    notifier = systemd.Notifier({"NOTIFY_SOCKET": name})
    while notifier.send("STATUS=again"):
        pass
    assert notifier.send("READY=1") is False
    sock.close()
    assert notifier.send("READY=1") is False
    assert systemd.Notifier({}).send("READY=1") is False
    assert systemd.Notifier({"NOTIFY_SOCKET": "/no/such/socket"}).send("READY=1") is False


def test_the_watchdog_is_for_the_process_it_names():
    assert systemd.Notifier({"WATCHDOG_USEC": "3000000"}).watchdog == 3.0
    assert systemd.Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}).watchdog == 3.0
    assert systemd.Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog == 0
    assert systemd.Notifier({"WATCHDOG_USEC": "soon"}).watchdog == 0


def test_an_exec_gets_the_variables_back():
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}
    given = dict(environ)
    notifier = systemd.Notifier(environ)
    assert environ == {}
    notifier.restore(environ)
    assert environ == given


ACTIVATED = """
import os, socket, sys
from apid.posix import systemd
os.environ["LISTEN_PID"] = sys.argv[1].replace("self", str(os.getpid()))
found = systemd.inherited_sockets(os.environ)
print(sorted((name, sock.getsockname()[1]) for name, sock in found.items()))
inheritable = [os.get_inheritable(sock.fileno()) for sock in found.values()]
print([name for name in os.environ if name.startswith("LISTEN_")], any(inheritable))
for sock in found.values(): sock.close()
"""

HAND_OVER = """
import os, sys
count = int(sys.argv[1])
for place in range(count):
    os.dup2(int(sys.argv[2 + place]), 3 + place, inheritable=True)
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[2 + count:]])
"""


def activated(socks, pid="self", **environ):
    """What a process started by socket activation finds."""
    fds = [os.dup(sock.fileno()) for sock in socks]
    high = []
    for fd in fds:  # out of the way of 3, 4, ...
        high.append(os.dup2(fd, 200 + fd))
        os.close(fd)
    try:
        done = subprocess.run(
            [sys.executable, "-c", HAND_OVER, str(len(high)), *map(str, high), ACTIVATED, pid],
            env={**os.environ, "LISTEN_FDS": str(len(high)), **environ},
            pass_fds=high,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        for fd in high:
            os.close(fd)
    return done.stdout.splitlines()


def test_sockets_come_with_their_names_and_places():
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
        socket.create_server(("127.0.0.1", 0)) as three,
        socket.create_server(("127.0.0.1", 0)) as four,
    ):
        ports = [sock.getsockname()[1] for sock in (one, two, three, four)]
        found, rest = activated([one, two, three, four], LISTEN_FDNAMES="web:unknown:web:apid-main_x")
    expected = sorted([("web", ports[0]), ("1", ports[1]), ("web.2", ports[2]), ("apid-main_x", ports[3])])
    assert found == str(expected)
    assert rest == "[] False"


def test_fewer_names_than_sockets_and_none_at_all():
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [one.getsockname()[1], two.getsockname()[1]]
        assert activated([one, two], LISTEN_FDNAMES="web")[0] == str(sorted([("web", ports[0]), ("1", ports[1])]))
        assert activated([one, two])[0] == str([("0", ports[0]), ("1", ports[1])])


def test_what_is_meant_for_another_process_is_not_taken():
    with socket.create_server(("127.0.0.1", 0)) as one:
        assert activated([one], pid="1")[0] == "[]"


def test_a_descriptor_that_is_no_socket_is_closed():
    with open("/dev/null", "rb") as null, socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        assert activated([null, one], LISTEN_FDNAMES="file:web")[0] == str([("web", port)])


@pytest.mark.parametrize(
    ("count", "taken"), [("5", 1), ("9" * 19, 1), ("9" * 5000, 0), ("²", 0), ("-1", 0), ("1e1", 0), ("", 0)]
)
def test_a_number_of_descriptors_that_is_not_true(count, taken):
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        assert activated([one], LISTEN_FDS=count) == [str([("0", port)] * taken), "[] False"]


@pytest.mark.parametrize("usec", ["²", "9" * 5000, "-1", "x"])
def test_a_watchdog_that_is_no_number_is_none(usec):
    assert systemd.Notifier({"WATCHDOG_USEC": usec}).watchdog == 0
