"""What `pip install apid` puts onto a machine: built, installed into an environment of its own, started with nothing given."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support import checkout
from tests.support.processes import wait_until

TOP = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wheel")
    source = checkout.copy(directory / "source")  # neither build/ nor an egg-info of the checkout has a say
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    (path,) = directory.glob("apid-*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A fresh virtual environment with the wheel; the dependencies are those of this environment, lent by a .pth file."""
    directory = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True, timeout=60)
    python = directory / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (Path(site) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return directory


def run(environment: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [environment / "bin" / program, *arguments]
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(environment)}
    return subprocess.run(
        command, cwd=environment, env=variables, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_wheel_holds_every_file_of_the_package_and_the_pipeline_as_a_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert archive.read("apid/api/api-paste.ini") == (TOP / "etc/apid/api-paste.ini").read_bytes()
    listed = subprocess.run(
        ["git", "ls-files", "apid"], cwd=TOP, capture_output=True, text=True, check=True
    ).stdout.split()
    assert sorted(set(listed) - set(names)) == [], "not in package-data"
    assert not [name for name in names if not name.startswith(("apid/", "apid-"))]


def test_console_scripts(environment):
    done = run(environment, "apid", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"apid \d+\.\d+\.\d+\n", done.stdout)
    done = run(environment, "apidctl", "--help")
    assert done.returncode == 0
    assert "reload" in done.stdout
    done = run(environment, "apid", "--nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_check_config_with_nothing_given_finds_the_packaged_pipeline(environment):
    done = run(environment, "apid", "--check-config")
    assert done.returncode == 0, done.stderr
    assert "No configuration file: defaults only." in done.stdout
    packaged = r"main of (\S+/site-packages/apid/api/api-paste\.ini)"
    found = re.search(packaged, done.stdout)
    assert found
    assert found[1].startswith(str(environment))
    assert "[composite:main]" in done.stdout


def test_plain_apid_serves_the_default_api_and_says_so(environment):
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(environment), "OS_DEFAULT__BIND_PORT": "0"}
    log = environment / "stderr"
    with log.open("wb") as stderr:
        process = subprocess.Popen([environment / "bin" / "apid"], cwd=environment, env=variables, stderr=stderr)
    try:
        wait_until(lambda: "ready: " in log.read_text(), "apid is ready", 60)
        text = log.read_text()
        assert "no configuration file: defaults and the packaged pipeline" in text
        port = int(re.search(r"listening on 127\.0\.0\.1:(\d+)", text)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.status == 300
        assert json.load(response)["versions"]
        connection.close()
    finally:
        process.terminate()
        assert process.wait(60) == 0
