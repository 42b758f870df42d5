"""The README's two commands, as a newcomer types them: in a fresh clone, with an environment that has nothing of ours."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

from tests.support import processes
from tests.support.client import get
from tests.support.daemon import READY, TOP

PATH = "/usr/local/bin:/usr/bin:/bin"


@pytest.fixture
def checkout(tmp_path):
    """A clone of HEAD: what is committed, and nothing else."""
    clone = tmp_path / "apid"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(TOP), str(clone)], check=True)
    return clone


def system_python() -> str:
    """A Python that a newcomer's PATH finds: not the one of a virtual environment."""
    return str(pathlib.Path(sys.executable).resolve())


def environment(tmp_path, *directories) -> dict[str, str]:
    """What `env -i` leaves: HOME (pip may be configured there) and PATH."""
    return {"HOME": os.environ.get("HOME", str(tmp_path)), "PATH": ":".join([*map(str, directories), PATH])}


def fake_python(directory: pathlib.Path, missing: str) -> None:
    """Put a `python3` there that is the real one, except that it has no module `missing`."""
    directory.mkdir()
    script = directory / "python3"
    script.write_text(
        textwrap.dedent(f"""\
        #!/bin/sh
        case "$*" in
            *"import {missing}"*) echo "ModuleNotFoundError: No module named '{missing}'" >&2; exit 1;;
        esac
        exec {system_python()} "$@"
        """),
        encoding="utf-8",
    )
    script.chmod(0o755)


@pytest.mark.parametrize("program", ["apid", "apidctl", "test"])
def test_a_missing_venv_module_gives_one_clear_sentence(checkout, tmp_path, program):
    fake_python(tmp_path / "fake", "venv")
    command = [str(checkout / "bin" / program)]
    done = subprocess.run(
        command, env=environment(tmp_path, tmp_path / "fake"), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(
        rf"bin/{program}: the venv module of \S+ is missing: install it \([^)]+\) and call again\n", done.stderr
    )
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
def test_two_commands_in_a_fresh_clone(checkout, tmp_path):
    env = {**environment(tmp_path), "OS_DEFAULT__BIND_PORT": "0"}
    command = [str(checkout / "bin" / "apid"), "--config-file", "etc/apid/apid.conf"]
    first, second = tmp_path / "first", tmp_path / "second"
    for log in (first, second):
        with serving(command, checkout, env, log) as address:
            answer = get(address)
            assert answer.status == 300
            assert answer.json()["versions"]
    assert "bin/apid: first call: making" in first.read_text()
    assert "bin/apid: installing apid into" in first.read_text()
    assert "bin/apid:" not in second.read_text(), "the second call starts at once"
    done = subprocess.run(
        ["bin/test", "-q", "tests/unit"],
        cwd=checkout,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)
    assert subprocess.run(["git", "status", "--porcelain"], cwd=checkout, capture_output=True, check=True).stdout == b""


@contextlib.contextmanager
def serving(command, directory, env, log):
    """Run the daemon until the body is done; yields where it listens, as its log says."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, cwd=directory, env=env, stdout=output, stderr=output)
    try:
        processes.wait_until(lambda: re.search(READY, log.read_text()) or process.poll() is not None, "readiness", 300)
        assert process.poll() is None, log.read_text()
        found = re.search(r"listening on (\S+):(\d+) \(listener main\)", log.read_text())
        assert found, log.read_text()
        yield found[1], int(found[2])
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
