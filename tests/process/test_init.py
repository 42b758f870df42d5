"""`apid init`: what it writes is a project that a newcomer can start, test and lint as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client import Connection
from tests.support.daemon import PROGRAM, TOP, Daemon

BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(params=["zoo"])
def project(request, tmp_path):
    done = run(PROGRAM, "init", request.param, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path / request.param


@pytest.mark.parametrize("project", ["zoo", "a_project_with_a_rather_long_name"], indirect=True)
def test_it_is_formatted_whatever_its_name(project):
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."]):
        done = run(*command, cwd=project)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_its_own_tests_pass_and_its_types_are_right(project):
    for command in (["mypy"], ["mypy", "."]):
        done = run(*command, cwd=project)
        assert done.returncode == 0, done.stdout
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", cwd=project)
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout


def test_it_runs_as_written(project, tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    daemon = Daemon(
        directory,
        environment={"PYTHONPATH": str(TOP)},  # not the project: its package is found beside its api-paste.ini
        sections={"paste_deploy": {"config_file": project / "api-paste.ini"}},
    )
    with daemon, Connection(daemon.address) as client:
        made = client.request("POST", "/notes", body=b'{"text": "hi"}', headers={"Content-Type": "application/json"})
        assert made.status == 201
        assert b'"hi"' in client.request("GET", "/notes").body


@pytest.mark.parametrize("name", ["9x", "a-b", "class", "json", "apid", "Zoo", "zoë", "", "../x", "a/b"])
def test_a_name_that_is_no_identifier_is_refused_and_nothing_is_written(name, tmp_path):
    done = run(PROGRAM, "init", name, cwd=tmp_path)
    assert done.returncode == 2
    assert repr(name) in done.stderr
    assert "nothing was written" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "mine").write_text("x")
    done = run(PROGRAM, "init", "zoo", cwd=tmp_path)
    assert done.returncode == 2
    assert "zoo exists already" in done.stderr
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_made_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("x")
    done = run(PROGRAM, "init", "zoo", "--dir", tmp_path / "file" / "zoo", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
