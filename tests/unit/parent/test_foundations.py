"""Configuration and code that others than root can change, while the parent is root and its workers are not."""

from __future__ import annotations

import logging
import os
import sys
import types
from pathlib import Path

import pytest

from apid.conf.settings import Daemon, Http, Log, Settings
from apid.parent import foundations
from tests.support import unprivileged

USER = 54321
STRANGER = 54322
"""Nothing on the machine has these numbers."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which takes root")

AFTER = ": a change of it acts as root at the next start, reload or upgrade"


@pytest.fixture
def top():
    """A directory of root's, in /tmp, with the directory `etc` and the file `apid.conf` in it."""
    for path in unprivileged.open_directory():
        (path / "etc").mkdir()
        (path / "etc" / "apid.conf").write_text("")
        yield path


def settings(top: Path, user: str | None = str(USER), **more) -> Settings:
    files = (str(top / "etc" / "apid.conf"),)
    return Settings(Daemon(1, user=user), Http(), more.pop("log", Log()), (), files, **more)


def findings(top: Path, **more) -> list[str]:
    """Those about `top`: the checkout may belong to any user."""
    return [line for line in foundations.findings(settings(top, **more)) if line.startswith(str(top))]


def test_what_only_root_can_change(top):
    assert findings(top) == []


@pytest.mark.parametrize("user", [None, "0"])
def test_workers_that_are_root_have_no_boundary(top, user):
    (top / "etc").chmod(0o777)
    assert findings(top, user=user) == []


@pytest.mark.parametrize(
    ("path", "owner", "mode", "said"),
    [
        ("etc/apid.conf", (USER, 0), 0o644, f"owner {USER}, mode 0644"),
        ("etc/apid.conf", (STRANGER, 0), 0o400, f"owner {STRANGER}, mode 0400"),
        ("etc/apid.conf", (0, 0), 0o646, "owner root, mode 0646"),
        ("etc/apid.conf", (0, USER), 0o664, f"owner root, group {USER}, mode 0664"),
        ("etc", (USER, USER), 0o755, f"owner {USER}, mode 0755"),
        ("etc", (0, 0), 0o777, "owner root, mode 0777"),
        ("etc", (0, USER), 0o775, f"owner root, group {USER}, mode 0775"),
        (".", (STRANGER, 0), 0o755, f"owner {STRANGER}, mode 0755"),
    ],
)
def test_what_others_can_change_is_named(top, path, owner, mode, said):
    changed = top / path
    changed.chmod(mode)
    os.chown(changed, *owner)
    consequence = f"the parent, which is root, is configured by {top}/etc/apid.conf"
    assert findings(top) == [f"{changed} ({said}) can be changed by others, and {consequence}{AFTER}"]


@pytest.mark.parametrize(
    ("path", "owner", "mode"),
    [
        ("etc", (0, STRANGER), 0o775),  # a group without members, such as Debian's staff
        ("etc", (0, 0), 0o775),
        ("etc", (0, 0), 0o1777),  # the owner of the entry counts
        ("etc/apid.conf", (0, USER), 0o644),
    ],
)
def test_what_others_cannot_change(top, path, owner, mode):
    (top / path).chmod(mode)
    os.chown(top / path, *owner)
    assert findings(top) == []


def test_links_on_the_way(top):
    (top / "real").mkdir()
    (top / "real" / "apid.conf").write_text("")
    os.chown(top / "real", USER, USER)
    (top / "etc" / "apid.conf").unlink()
    (top / "etc" / "apid.conf").symlink_to("../real/apid.conf")
    assert [line.split(" (")[0] for line in findings(top)] == [str(top / "real")]


def test_directories_of_configuration_and_of_handlers(top):
    (top / "conf.d").mkdir()
    os.chown(top / "conf.d", USER, USER)
    (top / "logging.conf").write_text("")
    os.chown(top / "logging.conf", USER, USER)
    log = Log(log_config_append=str(top / "logging.conf"))
    first, second = findings(top, log=log, directories=(str(top / "conf.d"),))
    assert first.startswith(f"{top}/conf.d (owner {USER}, mode 0755)")
    assert f"executes {top}/logging.conf{AFTER}" in second


def test_directories_of_code_and_what_was_loaded(top, monkeypatch):
    (top / "site").mkdir()
    os.chown(top / "site", USER, USER)
    (top / "module.py").write_text("")
    (top / "module.py").chmod(0o666)
    monkeypatch.setattr(sys, "path", [*sys.path, str(top / "site" / "not-yet")])
    module = types.ModuleType("module")
    module.__file__ = str(top / "module.py")
    module.__cached__ = str(top / "__pycache__" / "module.pyc")
    (top / "__pycache__").mkdir()
    (top / "__pycache__").chmod(0o777)
    (top / "venv").mkdir()
    (top / "venv" / "pyvenv.cfg").write_text("")
    os.chown(top / "venv" / "pyvenv.cfg", USER, USER)
    monkeypatch.setitem(sys.modules, "module", module)
    monkeypatch.setattr(sys, "prefix", str(top / "venv"))
    cached, first, second, third = sorted(findings(top))
    assert f"imports code from {top}/__pycache__" in cached
    assert f"is set up by {top}/venv/pyvenv.cfg" in third
    assert first == (
        f"{top}/module.py (owner root, mode 0666) can be changed by others, "
        f"and the parent, which is root, has imported {top}/module.py{AFTER}"
    )
    assert f"imports code from {top}/site/not-yet" in second


def test_a_checkout_of_somebody_else_is_one_line(top, monkeypatch):
    (top / "site").mkdir()
    for number in range(20):
        module = types.ModuleType(f"module{number}")
        module.__file__ = str(top / "site" / f"module{number}.py")
        Path(module.__file__).touch()
        os.chown(module.__file__, USER, USER)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    os.chown(top / "site", USER, USER)
    assert [line.split(" (")[0] for line in findings(top)] == [str(top / "site")]


def test_the_program_itself(top, monkeypatch):
    for name in ["python", "apid"]:
        (top / name).write_text("")
        os.chown(top / name, USER, USER)
    monkeypatch.setattr(sys, "orig_argv", [str(top / "python"), str(top / "apid"), "--config-file", "x"])
    assert [line.split(" (")[0] for line in findings(top)] == [str(top / "python"), str(top / "apid")]


def test_each_is_said_once(top, caplog):
    os.chown(top / "etc", USER, USER)
    said: set[str] = set()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            foundations.warn(settings(top), said)
    assert sum(str(top) in line for line in caplog.messages) == 1
