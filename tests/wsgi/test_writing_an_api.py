"""docs/WRITING_AN_API.md: its files, word for word, pass their own tests, and the API is as short as it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]
FILES = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_example_passes_its_own_tests(tmp_path):
    files = dict(FILES.findall((TOP / "docs" / "WRITING_AN_API.md").read_text(encoding="utf-8")))
    assert set(files) == {"zoo.py", "api-paste.ini", "test_zoo.py"}
    assert len(files["zoo.py"].strip().splitlines()) < 60
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        "test_zoo.py",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{TOP}"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
