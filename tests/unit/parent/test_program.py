"""The argument vector of an upgrade: what was started, with symbolic links as they are, resolved anew by the next exec."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from apid.errors import ApidError
from apid.parent import program, upgrade
from apid.posix import memfd

SHOW = "import json, sys; from apid.parent import program; print(json.dumps(program.command_line()))"


@pytest.fixture
def linked(tmp_path):
    """A python behind a symbolic link that could be switched, and a script behind another."""
    link = tmp_path / "current"
    (tmp_path / "v1").mkdir()
    link.symlink_to(tmp_path / "v1")
    (tmp_path / "v1" / "show").write_text(SHOW)
    (tmp_path / "v1" / "show_module.py").write_text(SHOW)
    return link


def shown(*argv, cwd):
    import json

    done = subprocess.run(
        argv,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": f"{pathlib.Path.cwd()}:{cwd}/current"},
    )
    return json.loads(done.stdout)


def test_a_script_keeps_its_link_and_becomes_absolute(linked, tmp_path):
    assert shown(sys.executable, "current/show", "--config-file", "etc/a.conf", cwd=tmp_path) == [
        sys.executable,
        str(tmp_path / "current" / "show"),
        "--config-file",
        "etc/a.conf",
    ]


def test_options_of_the_interpreter_stay(linked, tmp_path):
    found = shown(sys.executable, "-X", "faulthandler", "-W", "error", "current/show", "x/y", cwd=tmp_path)
    assert found[-2:] == [str(tmp_path / "current" / "show"), "x/y"]
    assert found[1:5] == ["-X", "faulthandler", "-W", "error"]


def test_a_module_and_a_command_stay_what_they_are(linked, tmp_path):
    assert shown(sys.executable, "-m", "show_module", "a/b", cwd=tmp_path)[1:] == ["-m", "show_module", "a/b"]
    assert shown(sys.executable, "-c", SHOW, "a/b", cwd=tmp_path)[1:] == ["-c", SHOW, "a/b"]


def test_a_program_of_another_state_version_is_refused_beforehand():
    assert upgrade.asked_version({}) is None
    assert upgrade.asked_version({program.ASKED_VERSION: str(program.STATE_VERSION)}) is None
    reason = upgrade.asked_version({program.ASKED_VERSION: "999"})
    assert "999" in reason
    assert "restart instead" in reason


def test_a_start_is_no_upgrade_and_a_document_for_another_process_is_refused():
    assert upgrade.restore({}) is None
    assert upgrade.restore({program.STATE_FD: "nonsense"}) is None
    fd = memfd.of(b'{"version": %d, "pid": 1}' % program.STATE_VERSION, "state")
    with pytest.raises(ApidError, match="not for this process"):
        upgrade.restore({program.STATE_FD: str(fd)})
    for odd in ("999999", "9" * 30):
        with pytest.raises(ApidError, match="cannot be taken over"):
            upgrade.restore({program.STATE_FD: odd})


def test_a_program_that_cannot_be_executed_is_an_error_and_nothing_has_changed(tmp_path):
    fd = os.memfd_create("state", os.MFD_CLOEXEC)
    error = program.become([str(tmp_path / "none")], fd, [])
    assert isinstance(error, FileNotFoundError)
    assert not os.get_inheritable(fd)
    os.close(fd)
    with pytest.raises(FileNotFoundError):
        program.Trial.start([str(tmp_path / "none")])
