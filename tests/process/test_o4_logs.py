"""O4: after a reopen no octet goes to an old file, and no line is lost or split under load; each line knows its request."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import signal
import subprocess
import threading

import pytest

from tests.support.client import get
from tests.support.load import Load
from tests.support.processes import descriptors, wait_until

RECORDING = "[app:main]\npaste.app_factory = tests.support.apps.recording:factory\n"
LOGGING = "[app:main]\npaste.app_factory = tests.support.apps.logging_app:factory\n"

ROTATE = """
"{access}" "{daemon}" {{
    rotate 100
    missingok
    {su}
    sharedscripts
    postrotate
        "{apidctl}" --socket "{control}" reopen
    endscript
}}
"""


class Files:
    """A daemon that logs into files, and these files with all that were moved away."""

    def __init__(self, daemon, **options):
        self.one = daemon(
            paste=RECORDING, access_log="access.log", log_file="daemon.log", access_log_format="json", **options
        )
        self.directory: pathlib.Path = self.one.directory
        self.access = self.directory / "access.log"
        self.log = self.directory / "daemon.log"
        self.one.options |= {"access_log": self.access, "log_file": self.log}
        self.one.write_config()
        self.one.launch()
        wait_until(lambda: "ready: 2 workers" in self.text(self.log), "the daemon is ready", 30)
        found = re.search(r"listening on (\S+):(\d+) ", self.text(self.log))
        self.address = (found[1], int(found[2]))

    @staticmethod
    def text(path: pathlib.Path) -> str:
        return path.read_text("utf-8") if path.exists() else ""

    def move(self, number: int) -> list[pathlib.Path]:
        moved = []
        for path in (self.access, self.log):
            target = path.with_name(f"{path.name}.{number}")
            path.rename(target)
            moved.append(target)
        return moved

    def in_use(self, paths: list[pathlib.Path]) -> bool:
        """Whether a process of the daemon has one of these open."""
        names = {str(path) for path in paths}
        return any(names & set(descriptors(pid).values()) for pid in [self.one.pid, *self.one.worker_pids()])

    def check(self, answered: int) -> None:
        """Every request has its one whole line in one of the access logs."""
        lines = [line for path in sorted(self.directory.glob("access.log*")) for line in self.text(path).splitlines()]
        entries = [json.loads(line) for line in lines]
        assert len(entries) == answered
        assert len({entry["request_id"] for entry in entries}) == answered
        text = "".join(self.text(path) for path in self.directory.glob("daemon.log*"))
        assert all(re.match(r"\d{4}-\d\d-\d\d \S+ [A-Z]+ apid|  ", line) for line in text.splitlines())


@pytest.mark.both_engines(slow=True)
def test_reopened_under_load_by_command_and_by_signal(daemon, tmp_path):
    files = Files(daemon)
    sizes: dict[pathlib.Path, int] = {}
    with Load(files.address, tmp_path / "load", connections=8, pace=0.001, mode="mix") as load:
        for number in range(6):
            moved = files.move(number)
            if number % 2:
                files.one.signal(signal.SIGUSR1)
                wait_until(lambda old=moved: not files.in_use(old), "the reopening", 10)  # a signal has no verdict
            else:
                files.one.apidctl("reopen")
            sizes |= {path: path.stat().st_size for path in moved}  # from here on nothing more may come
            wait_until(lambda: files.access.exists() and files.access.stat().st_size > 0, "lines in the new file", 30)
        figures = load.stop()
    assert figures.errors == 0, figures
    assert files.one.stop() == 0
    assert {path: path.stat().st_size for path in sizes} == sizes
    assert all(sizes[path] > 0 for path in sizes if "access" in path.name)
    files.check(figures.answered)


@pytest.mark.slow
def test_logrotate_as_documented(daemon, tmp_path):
    if shutil.which("logrotate") is None:
        pytest.skip("logrotate is not installed (Debian: apt-get install logrotate)")
    files = Files(daemon)
    from tests.support.daemon import CONTROL

    owner = f"su {files.directory.owner()} {files.directory.group()}"
    rules = tmp_path / "rotate.conf"
    text = ROTATE.format(access=files.access, daemon=files.log, apidctl=CONTROL, control=files.one.control, su=owner)
    rules.write_text(text, encoding="utf-8")
    rules.chmod(0o644)
    command = [shutil.which("logrotate"), "--force", "--state", str(tmp_path / "state"), str(rules)]
    with Load(files.address, tmp_path / "load", connections=8, pace=0.001, mode="mix") as load:
        for number in range(1, 5):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert (files.directory / f"access.log.{number}").exists()
            wait_until(lambda: files.access.exists() and files.access.stat().st_size > 0, "lines in the new file", 30)
        figures = load.stop()
    assert figures.errors == 0, figures
    assert files.one.stop() == 0
    files.check(figures.answered)


@pytest.mark.both_engines
def test_what_an_application_logs_carries_the_id_of_its_own_request(daemon):
    """Twenty requests at once in one worker, each of which sleeps between its two lines."""
    one = daemon(paste=LOGGING, workers=1).start()
    ids: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda word=f"r{n}": ids.__setitem__(word, get(one.address, f"/{word}").text))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = re.findall(r"INFO app worker=0 gen=1 pid=\d+ \[(req-\S+)\] (before|after) (r\d+)$", one.log(), re.MULTILINE)
    assert len(lines) == 40
    assert {(found, word) for found, _, word in lines} == {(found, word) for word, found in ids.items()}
    order = [when for _, when, _ in lines]
    assert order != ["before", "after"] * 20  # they did overlap
    assert "[req-" not in "".join(line for line in one.log().splitlines() if " apid" in line)
