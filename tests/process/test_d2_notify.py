"""D1-D3 from the service manager's side: a socket of the test's own stands where systemd's would, and reads what it is told."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import threading
import time

import pytest

from tests.support import processes
from tests.support.apps import pipeline
from tests.support.client import Connection, get, request_bytes
from tests.support.processes import wait_until


class Manager:
    """The receiving end of sd_notify(3)."""

    def __init__(self, name: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + name[1:] if name.startswith("@") else name)
        self.told: list[tuple[float, dict[str, str], int]] = []
        """(when, fields, how many descriptors came along)."""

        self.over = False
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        """Take each message at once, as systemd does: the queue holds ten."""
        self.sock.settimeout(0.05)
        while not self.over:
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, 65536, 16)
            except TimeoutError:
                continue
            for fd in fds:
                os.close(fd)
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            self.told.append((time.monotonic(), fields, len(fds)))

    def close(self) -> None:
        self.over = True
        self.thread.join()
        self.sock.close()

    def find(self, key: str, value: str | None = None) -> list[tuple[float, dict[str, str], int]]:
        return [one for one in list(self.told) if key in one[1] and value in (None, one[1][key])]

    def wait_for(self, key: str, value: str | None = None, count: int = 1) -> tuple[float, dict[str, str], int]:
        wait_until(lambda: len(self.find(key, value)) >= count, f"{key}={value} {count} times; told: {self.told}", 15)
        return self.find(key, value)[count - 1]


@pytest.fixture
def manager(tmp_path):
    name = str(tmp_path / "notify")
    one = Manager(name)
    one.name = name
    yield one
    one.close()


def started(daemon, manager, app="hello", **options):
    environment = {"NOTIFY_SOCKET": manager.name, **options.pop("environment", {})}
    return daemon(paste=pipeline(app), environment=environment, **options)


def test_d1_ready_means_serving_and_d2_each_step_is_told(daemon, manager):
    one = started(daemon, manager).launch()
    manager.wait_for("READY", "1")
    assert get(one.address).status == 200, "READY=1, and the first request is served"
    (_, stored, count) = manager.wait_for("FDSTORE", "1")
    assert count == 1
    assert re.fullmatch(r"apid-[^:\s]+", stored["FDNAME"])
    line = manager.wait_for("STATUS", "running, generation 1: 2 of 2 workers ready")
    assert line

    assert one.ask("reload")["ok"]
    _, fields, _ = manager.wait_for("RELOADING", "1")
    usec = int(fields["MONOTONIC_USEC"])
    assert abs(usec / 1e6 - time.monotonic()) < 30
    manager.wait_for("READY", "1", count=2)
    order = [next(iter(fields)) for _, fields, _ in list(manager.told) if {"RELOADING", "READY"} & set(fields)]
    assert order == ["READY", "RELOADING", "READY"]
    manager.wait_for("STATUS", "running, generation 2: 2 of 2 workers ready")

    assert one.stop() == 0
    manager.wait_for("STOPPING", "1")


@pytest.mark.timing
def test_d2_a_drain_asks_for_more_time(daemon, manager, tmp_path):
    one = started(daemon, manager, "slow", workers=1).start()
    with Connection(one.address, timeout=20) as connection:
        connection.send(request_bytes("GET", "/?s=3"))
        wait_until(lambda: one.status()["workers"][0]["in_flight"], "the request is in flight")
        one.signal(signal.SIGTERM)
        assert connection.answer().status == 200
    assert one.wait() == 0
    asked = [at for at, _, _ in manager.find("EXTEND_TIMEOUT_USEC")]
    assert len(asked) >= 2
    gaps = [b - a for a, b in itertools.pairwise(asked)]
    assert max(gaps) < 4, "each comes before the last one is used up"


@pytest.mark.timing
def test_d2_the_watchdog_hears_of_a_daemon_that_is_well(daemon, manager):
    one = started(daemon, manager, environment={"WATCHDOG_USEC": "2000000"}).start()
    manager.wait_for("WATCHDOG", "1", count=3)
    times = [at for at, _, _ in manager.find("WATCHDOG", "1")]
    assert max(b - a for a, b in itertools.pairwise(times)) < 2, "well within WATCHDOG_USEC"
    assert one.stop() == 0


@pytest.mark.timing
@pytest.mark.both_engines(slow=True)
def test_d2_the_watchdog_is_honest(daemon, manager):
    """When no worker beats any more, nobody says that all is well."""
    one = started(
        daemon, manager, "hanging", workers=1, pool_size=1, worker_timeout=0, environment={"WATCHDOG_USEC": "1000000"}
    ).start()
    one.allow("stalled", "killed")
    manager.wait_for("WATCHDOG", "1", count=2)
    with Connection(one.address) as connection:
        connection.send(request_bytes("GET", "/sleep"))
        one.wait_for_log("stalled: ")
        quiet = len(manager.find("WATCHDOG", "1"))
        began = time.monotonic()
        wait_until(
            lambda: time.monotonic() - began > 1.5, "one and a half periods"
        )  # the absence of something takes time
        assert len(manager.find("WATCHDOG", "1")) <= quiet + 1
        assert one.stop(signal.SIGINT) == 1, "the request that hangs is lost"


@pytest.mark.slow
def test_d2_an_upgraded_daemon_goes_on_telling(daemon, manager):
    one = started(daemon, manager, environment={"WATCHDOG_USEC": "2000000"}).start()
    assert one.ask("upgrade")["ok"]
    manager.wait_for("READY", "1", count=2)
    before = len(manager.find("WATCHDOG", "1"))
    manager.wait_for("WATCHDOG", "1", count=before + 2)
    assert one.stop() == 0
    manager.wait_for("STOPPING", "1")


def test_d3_sockets_come_by_name_and_only_for_their_process(daemon):
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(("127.0.0.1", 0)) as other:
        one = daemon(paste=pipeline("hello"), listen={"web": web, "other": other}, bind="fd:web").start()
        assert get(web.getsockname()).status == 200
        assert one.ask("reload")["ok"]
        assert get(web.getsockname()).status == 200
        assert one.ask("upgrade")["ok"]
        assert get(web.getsockname()).status == 200
        # nobody would ever answer at the other one, so nobody holds it
        held = {link for pid in [one.pid, *one.worker_pids()] for link in processes.descriptors(pid).values()}
        assert f"socket:[{os.fstat(other.fileno()).st_ino}]" not in held
        assert one.stop() == 0


def test_d3_a_listen_pid_of_another_process_is_not_ours(daemon):
    one = daemon(
        paste=pipeline("hello"),
        bind="fd:web",
        environment={"LISTEN_FDS": "1", "LISTEN_FDNAMES": "web", "LISTEN_PID": "1"},
    ).launch()
    assert one.wait() == 3
    assert "no such descriptor was handed over" in one.log()
    one.allow(".")
