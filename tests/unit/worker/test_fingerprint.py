"""What stands for the code that a process has loaded."""

from __future__ import annotations

import os
import time

import pytest

from apid.worker import fingerprint


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "application.py"
    made.write_text("one")
    os.utime(made, (time.time() - 100,) * 2)
    return made


def test_the_same_files_have_the_same_fingerprint(file):
    first = fingerprint.of([str(file)], time.time())
    assert first == fingerprint.of([str(file), str(file)], time.time())
    file.write_text("two")
    os.utime(file, (time.time() - 50,) * 2)
    assert fingerprint.of([str(file)], time.time()) != first


def test_what_was_written_while_it_was_loaded_equals_nothing(file):
    began = time.time() - 200
    assert fingerprint.of([str(file)], began) != fingerprint.of([str(file)], began)


def test_a_time_in_the_future_says_nothing(file):
    """A clock was wrong when it was written; the next mold would otherwise never be the same."""
    os.utime(file, (time.time() + 3600,) * 2)
    began = time.time()
    assert fingerprint.of([str(file)], began) == fingerprint.of([str(file)], began)


@pytest.mark.parametrize("change", ["removed", "grown"])
def test_large_and_missing_files_count(file, change):
    file.write_bytes(bytes(fingerprint.LARGE + 1))
    os.utime(file, (time.time() - 100,) * 2)
    first = fingerprint.of([str(file)], time.time())
    if change == "removed":
        file.unlink()
    else:
        file.write_bytes(bytes(fingerprint.LARGE + 2))
        os.utime(file, (time.time() - 100,) * 2)
    assert fingerprint.of([str(file)], time.time()) != first
