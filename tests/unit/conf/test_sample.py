"""The files in etc/apid, and what oslo.config's own tools make of apid's options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from apid import conf
from apid.conf.opts import list_opts
from apid.conf.settings import Address

TOP = Path(__file__).parents[3]
ETC = TOP / "etc" / "apid"


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(name)), "--namespace", "apid", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_sample_is_current(tmp_path):
    done = tool("oslo-config-generator", "--output-file", str(tmp_path / "sample"))
    assert (done.returncode, done.stderr) == (0, "")
    command = "oslo-config-generator --namespace apid --output-file etc/apid/apid.conf.sample"
    assert (tmp_path / "sample").read_text() == (ETC / "apid.conf.sample").read_text(), f"regenerate it: {command}"


def test_the_sample_with_every_default_uncommented_gives_the_defaults(tmp_path):
    lines = []
    for line in (ETC / "apid.conf.sample").read_text().split("[listener:name]")[0].splitlines():
        is_option = line.startswith("#") and line[1:2].isalpha() and " =" in line
        lines.append(line[1:] if is_option and "<" not in line and not line.endswith("=") else line)
    path = tmp_path / "apid.conf"
    path.write_text("\n".join(lines))
    (tmp_path / "api-paste.ini").write_text("")
    filled = conf.load(["--config-file", str(path)], environ={})
    path.write_text("")
    assert "bind_port = 8080" in lines
    empty = conf.load(["--config-file", str(path)], environ={})
    assert (filled.daemon, filled.http, filled.log, filled.listeners) == (
        empty.daemon,
        empty.http,
        empty.log,
        empty.listeners,
    )


@pytest.mark.parametrize("name", ["apid.conf", "apid.conf.sample"])
def test_the_files_load_as_they_are(name):
    settings = conf.load(["--config-file", str(ETC / name)], environ={})
    assert settings.listeners[0].addresses == (Address("tcp", "127.0.0.1", 8080),)
    assert settings.listeners[0].paste.config_file == str(ETC / "api-paste.ini")


def test_the_validator_knows_our_options(tmp_path):
    path = tmp_path / "apid.conf"
    path.write_text("[DEFAULT]\nworkers = 3\n[wsgi]\nkeep_alive = true\n[ssl]\ncert_file = x\n")
    assert tool("oslo-config-validator", "--input-file", str(path)).returncode == 0
    path.write_text("[DEFAULT]\nworkres = 3\n")
    done = tool("oslo-config-validator", "--input-file", str(path))
    assert done.returncode == 1
    assert "workres" in done.stderr


def test_every_help_is_a_sentence():
    for group, options in list_opts():
        for opt in options:
            where = f"{group}.{opt.name}"
            assert opt.help[0].isupper(), where
            assert opt.help[0].isalpha(), where
            assert opt.help.endswith("."), where
            assert len(opt.help.split()) > 3, where
