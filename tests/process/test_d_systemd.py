"""D1-D4: apid's units under a real systemd, unchanged but for shorter times."""

from __future__ import annotations

import json
import pathlib
import shutil
import tempfile
import time

import pytest

from tests.support.processes import wait_until
from tests.support.systemd import TOP, Machine, told, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "possible"),
]

CONFIG = "[DEFAULT]\nworkers = 2\naccess_log = -\n"
DROP_INS = {"apid.service": "[Service]\nWatchdogSec=4\n[Unit]\nStartLimitIntervalSec=0\n"}


@pytest.fixture(scope="module")
def machine():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="apid-systemd-", dir="/var/lib"))
    try:
        with Machine(directory, DROP_INS) as one:
            yield one
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def apid(machine):
    """The machine with the default configuration, and no apid running before and after."""
    (machine.etc / "apid.conf").write_text(CONFIG)
    shutil.copy(TOP / "etc" / "apid" / "api-paste.ini", machine.etc)
    yield machine
    machine.systemctl("stop", "apid.service", "apid@one.service", "apid.socket", check=False)
    machine.systemctl("reset-failed", check=False)


def main_pid(machine: Machine) -> str:
    return machine.show("apid.service", "MainPID")["MainPID"]


def test_d1_ready_means_serving(apid):
    for verb in ["start", "restart", "restart"]:
        apid.systemctl(verb, "apid.service")
        assert apid.ask(8080)["errors"] == []


def test_d2_the_manager_is_told(apid):
    apid.systemctl("start", "apid.service")
    assert apid.show("apid.service", "StatusText")["StatusText"] == "running, generation 1: 2 of 2 workers ready"
    apid.systemctl("reload", "apid.service")
    assert apid.show("apid.service", "StatusText")["StatusText"].startswith(
        "running, generation 2: 2 of 2 workers ready"
    )
    assert apid.show("apid.service", "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}
    apid.systemctl("stop", "apid.service")
    assert apid.show("apid.service", "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}


def test_d2_a_parent_that_stands_still_is_restarted(apid):
    apid.systemctl("start", "apid.service")
    was = main_pid(apid)
    apid.run("kill", "-STOP", was)
    wait_until(lambda: apid.show("apid.service", "NRestarts")["NRestarts"] == "1", "the watchdog has struck", 60, 0.2)
    wait_until(lambda: apid.show("apid.service", "ActiveState")["ActiveState"] == "active", "it is back", 60, 0.2)
    assert main_pid(apid) != was
    assert apid.ask(8080)["errors"] == []


def test_reload_tells_the_truth(apid):
    apid.systemctl("start", "apid.service")
    apid.ask(8080)
    (apid.etc / "apid.conf").write_text("[DEFAULT]\nworkres = 3\n")
    assert apid.systemctl("reload", "apid.service", check=False).returncode != 0
    assert apid.ask(8080)["errors"] == []
    assert "apid.conf:2: unknown option workres in [DEFAULT]; did you mean workers?" in apid.journal("apid.service")
    assert apid.show("apid.service", "ActiveState")["ActiveState"] == "active"


def test_a_wrong_configuration_is_not_tried_again_and_again(apid):
    (apid.etc / "apid.conf").write_text("[DEFAULT]\nworkres = 3\n")
    assert apid.systemctl("start", "apid.service", check=False).returncode != 0
    state = apid.show("apid.service", "ActiveState", "NRestarts", "ExecMainStatus")
    assert state == {"ActiveState": "failed", "NRestarts": "0", "ExecMainStatus": "2"}


def test_d3_a_restart_refuses_nobody(apid, say):
    apid.systemctl("start", "apid.service")
    client = apid.client(8080, 8)
    began = time.monotonic()
    for _ in range(3):
        apid.systemctl("restart", "apid.service")
    took = time.monotonic() - began
    seen = told(client)
    say(f"3 restarts in {took:.1f} s: {seen}")
    assert seen["errors"] == []
    assert "adopted from the service manager's store" in apid.journal("apid.service")


def test_d3_a_parent_that_is_killed_refuses_nobody(apid, say):
    apid.systemctl("start", "apid.service")
    was = main_pid(apid)
    client = apid.client(8080, 8)
    apid.run("kill", "-KILL", was)
    wait_until(lambda: main_pid(apid) not in (was, "0"), "systemd has started another", 30, 0.1)
    seen = told(client)
    say(f"kill -9 of the parent: {seen}")
    assert "ConnectionRefusedError" not in seen["errors"]
    assert len(seen["errors"]) <= 1, "only what a worker was answering at that moment may fail"


def test_d3_socket_activation(apid):
    (apid.etc / "apid.conf").write_text(f"{CONFIG}bind = fd:api\n")
    apid.systemctl("start", "apid.socket")
    assert apid.show("apid.service", "ActiveState")["ActiveState"] == "inactive"
    seen = apid.ask(8080)
    assert (seen["answers"], seen["errors"]) == (1, [])
    apid.systemctl("restart", "apid.service")
    assert apid.ask(8080)["errors"] == []
    assert "no address wants it" not in apid.journal("apid.service")


def test_an_instance(apid):
    (apid.etc / "one.conf").write_text("[DEFAULT]\nbind_port = 8090\nworkers = 1\n")
    apid.systemctl("start", "apid@one.service")
    assert apid.ask(8090)["errors"] == []
    apid.systemctl("reload", "apid@one.service")
    assert (
        "generation 2: 1 of 1 workers ready"
        in apid.run("apidctl", "--socket", "/run/apid-one/control.sock", "status").stdout
    )


def test_an_upgrade_keeps_the_pid_and_the_manager(apid):
    apid.systemctl("start", "apid.service")
    was = main_pid(apid)
    apid.run("apidctl", "--socket", "/run/apid/control.sock", "--timeout", "60", "upgrade")
    assert main_pid(apid) == was
    assert apid.show("apid.service", "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}
    assert apid.ask(8080)["errors"] == []
    apid.systemctl("reload", "apid.service")
    assert apid.show("apid.service", "StatusText")["StatusText"].startswith(
        "running, generation 3: 2 of 2 workers ready"
    )


def test_the_journal_gets_fields(apid):
    (apid.etc / "apid.conf").write_text("[DEFAULT]\nworkers = 2\nuse_journal = true\n")
    apid.systemctl("start", "apid.service")
    query = ["journalctl", "--no-pager", "--output=json", "--unit=apid.service", "APID_WORKER=1"]
    wait_until(lambda: apid.run(*query).stdout, "the journal has the line of a worker", 20, 0.1)
    entries = [json.loads(line) for line in apid.run(*query).stdout.splitlines()]
    (ready,) = [entry for entry in entries if entry["MESSAGE"].startswith("ready after ")][-1:]
    assert (ready["SYSLOG_IDENTIFIER"], ready["LOGGER"], ready["PRIORITY"]) == ("apid", "apid.parent", "6")
    assert (ready["APID_GEN"], ready["_SYSTEMD_UNIT"]) == ("1", "apid.service")


def test_d4_nothing_is_written_outside_and_nothing_is_allowed(apid):
    apid.run("touch", "/.before")
    apid.systemctl("start", "apid.service")
    apid.ask(8080)
    apid.systemctl("reload", "apid.service")
    pid = main_pid(apid)
    status = apid.run("cat", f"/proc/{pid}/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["Uid"].split()[0] not in ("0", "65534")
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    apid.systemctl("stop", "apid.service")
    allowed = ("/var/lib/private/apid/",)  # StateDirectory: where the default API keeps its database
    systemds = ("/var/log/journal/", "/var/log/wtmp", "/var/lib/systemd/", "/etc/machine-id")
    assert [path for path in apid.written("/.before") if not path.startswith(allowed + systemds)] == []
    apid.run("touch", "/.after")
    assert "/.after" in apid.written("/.before"), "the search would have found something"
