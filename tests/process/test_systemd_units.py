"""The units: systemd can read them, and finds little that a broken apid could harm."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
PROGRAMS = Path(sys.executable).parent
SERVICES = ["apid.service", "apid@.service"]

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here")


@pytest.fixture
def units(tmp_path):
    """Copy the units, with the programs of this environment: systemd looks for those it names in /usr."""
    for path in UNITS.iterdir():
        text = path.read_text()
        text = re.sub(r"^(ExecStart|ExecReload)=(apid(?:ctl)?) ", rf"\1={PROGRAMS}/\2 ", text, flags=re.MULTILINE)
        (tmp_path / path.name).write_text(text)
    assert f"ExecStart={PROGRAMS}/apid " in (tmp_path / "apid.service").read_text()
    return tmp_path


def analyze(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("unit", ["./apid.service", "./apid@one.service", "./apid.socket"])
def test_verify(units, unit):
    if "@one" in unit:
        (units / "apid@one.service").symlink_to("apid@.service")
    done = analyze(units, "verify", "--man=no", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_verify_would_see_a_mistake(units):
    with (units / "apid.service").open("a") as file:
        file.write("[Service]\nKillMode=gentle\nNoSuchOption=1\n")
    done = analyze(units, "verify", "--man=no", "./apid.service")
    assert "kill mode" in done.stderr
    assert "NoSuchOption" in done.stderr


@pytest.mark.parametrize("unit", SERVICES)
def test_exposure_is_at_most_2(units, unit):
    done = analyze(units, "security", "--offline=true", "--no-pager", "--threshold=20", f"./{unit}")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= 2.0, done.stdout
    assert done.returncode == 0


def settings(unit: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


def test_the_instances_differ_in_names_only():
    one, many = (settings(unit) for unit in SERVICES)
    assert one.keys() == many.keys()
    different = {key for key in one if one[key] != many[key]}
    assert different == {
        "Description",
        "Environment",
        "EnvironmentFile",
        "ExecStart",
        "RuntimeDirectory",
        "StateDirectory",
    }


def test_reload_asks_the_parent_and_waits_for_its_verdict():
    service = settings("apid.service")
    assert service["Type"] == ["notify"]
    (reload,) = service["ExecReload"]
    assert reload.startswith("apidctl ")
    assert reload.endswith(" reload")
    assert service["KillMode"] == ["mixed"]
    assert service["RestartPreventExitStatus"] == ["2"]
