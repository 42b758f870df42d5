"""A daemon of root's makes and removes sockets, lock files and its pid file where no other user can lead it elsewhere."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.apps import pipeline
from tests.support.client import get
from tests.support.daemon import PROGRAM
from tests.support.processes import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="acts as two users, which takes root")

STRANGER = 54321
"""A user id that nothing on the machine has."""

PLACES = {
    "bind": ("listener", lambda path: {"bind": f"unix:{path}", "bind_port": None}, 3),
    "control_socket": ("control_socket", lambda path: {"control_socket": path}, 3),
    "pid_file": ("pid_file", lambda path: {"pid_file": path}, 2),
}


def check(one):
    """(exit code, standard error) of a check of the daemon's configuration."""
    command = [str(PROGRAM), "--config-file", str(one.config), "--check-config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=one.directory)
    return done.returncode, done.stderr


@pytest.mark.parametrize("option", PLACES)
@pytest.mark.parametrize("way", ["directory", "link", "shared"])
def test_a_path_that_another_user_could_lead_elsewhere_is_refused(daemon, tmp_path, option, way):
    """At the start and by --check-config, with a reason that names the directory; nothing is made there."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    ours.mkdir()
    theirs.mkdir()
    if way == "link":
        (theirs / "run").symlink_to(ours)
    else:
        (theirs / "run").mkdir()
    if way == "shared":
        theirs.chmod(0o777)
        why = f"the directory {theirs} is writable by everybody"
    else:
        os.chown(theirs, STRANGER, STRANGER)
        why = f"the directory {theirs} belongs to user {STRANGER}"
    _, options, code = PLACES[option]
    one = daemon(paste=pipeline("hello"), workers=1, **options(theirs / "run" / "path")).launch()
    assert one.wait() == code
    last = one.log().splitlines()[-1]
    assert why in last
    assert f"{theirs}/run/path" in last
    checked, told = check(one)
    assert checked == 2
    assert f"[DEFAULT] {option}: " in told
    assert why in told
    assert list(ours.iterdir()) == []
    assert [entry.name for entry in (theirs / "run").iterdir()] == []


def test_a_reload_onto_such_a_path_fails_and_changes_nothing(daemon, tmp_path):
    theirs = tmp_path / "theirs"
    (theirs / "run").mkdir(parents=True)
    os.chown(theirs, STRANGER, STRANGER)
    one = daemon(paste=pipeline("hello"), workers=1, pid_file=tmp_path / "pid").start()
    good = dict(one.options)
    for _, options, _ in PLACES.values():
        one.options = {**good, "listeners": None, **options(theirs / "run" / "path")}
        one.write_config()
        answer = one.ask("reload")
        assert not answer["ok"]
        assert f"the directory {theirs} belongs to user {STRANGER}" in answer["text"]
    assert list((theirs / "run").iterdir()) == []
    assert get(one.address).status == 200
    one.allow("reload failed")
    assert one.stop() == 0


def test_in_a_directory_of_another_user_nothing_of_roots_is_touched(daemon, tmp_path):
    """What that user plants there is replaced or refused; the user gets nothing but that directory."""
    run, dear = tmp_path / "run", tmp_path / "dear"
    run.mkdir()
    os.chown(run, STRANGER, STRANGER)
    dear.write_text("dear")
    dear.chmod(0o600)
    before = dear.stat()
    names = ("api.sock.lock", "ctl.lock", "pid", "pid.lock")
    for name in names:
        (run / name).symlink_to(dear if name != "pid" else tmp_path / "new")
    one = daemon(
        paste=pipeline("hello"),
        workers=1,
        bind=f"unix:{run}/api.sock",
        bind_port=None,
        control_socket=run / "ctl",
        pid_file=run / "pid",
    )
    one.control = run / "ctl"
    one.start()
    assert get(run / "api.sock").status == 200
    for name in names[:3]:
        assert (run / name).read_text() == f"{one.pid}\n"
        assert (run / name).lstat().st_uid == 0
    for command in ("reload", "upgrade"):
        (run / "pid").unlink()
        os.link(dear, run / "pid")
        (run / "ctl.lock").unlink()
        (run / "ctl.lock").symlink_to(dear)
        assert one.ask(command)["ok"]
        assert (run / "pid").read_text() == f"{one.pid}\n"
    for name in ("api.sock", "pid"):
        (run / name).unlink()
        (run / name).symlink_to(dear)
    assert one.stop() == 0
    after = dear.stat()
    assert dear.read_text() == "dear"
    for fact in ("st_uid", "st_mode", "st_mtime_ns", "st_nlink"):
        assert getattr(before, fact) == getattr(after, fact)
    wait_until(lambda: not (run / "ctl").exists(), "the control socket is removed")
    assert sorted(entry.name for entry in run.iterdir()) == ["api.sock", "ctl.lock", "pid", "pid.lock"]
    assert not (tmp_path / "new").exists()
