"""The file of the shared counts: whose it is, where it lies, and what happens when somebody touches it."""

import os
import subprocess
import sys

import pytest

from apid.wsgi.factory import OptionError
from apid.wsgi.middleware import ratelimit
from apid.wsgi.ratelimit import statefile
from apid.wsgi.ratelimit.charge import StorageError
from apid.wsgi.ratelimit.sharedtable import SharedTable
from tests.wsgi.ratelimit_table import passed


def test_a_removed_file_is_made_anew(tmp_path, table):
    assert passed(table, hits=100) == 100
    (tmp_path / "table").unlink()
    table._look_again = 0  # a second later
    assert passed(table, hits=150) == 100
    other = SharedTable(tmp_path / "table", 1)
    assert passed(other) == 0
    other.close()


def test_half_made_files_are_made_again(tmp_path):
    (tmp_path / "table").write_bytes(b"\0" * 100)
    made = SharedTable(tmp_path / "table", 1)
    assert passed(made, hits=101) == 100
    made.close()


def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "table").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"):
        SharedTable(tmp_path / "table", 1)
    assert not (tmp_path / "victim").exists()


def test_the_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}:/other")
    assert statefile.default_directory() == tmp_path
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    found = statefile.default_directory()
    assert found.name == f"apid-{os.geteuid()}"
    assert found.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "spoil", [lambda path: path.mkdir() or path.chmod(0o777), lambda path: path.symlink_to("/tmp")]
)
def test_a_directory_that_others_can_write_to_is_refused(tmp_path, spoil):
    spoil(tmp_path / "d")
    with pytest.raises(statefile.StateError, match="name another one with state_dir"):
        statefile._own(tmp_path / "d")


def test_the_files_of_dead_parents_are_swept(tmp_path):
    machine = statefile._machine()
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead = tmp_path / f"apid-ratelimit-{machine}-{child.pid}-123-aa"
    recycled = tmp_path / f"apid-ratelimit-{machine}-{os.getpid()}-1-aa"
    alive = tmp_path / f"apid-ratelimit-{machine}-{os.getpid()}-{statefile._start_time(os.getpid())}-aa"
    ours = statefile.path_of(tmp_path, "/etc/x.ini", "n", "1")
    other_boot = tmp_path / "apid-ratelimit-00000000-1-1-1-aa"
    foreign = tmp_path / "important"
    files = {dead, recycled, alive, ours, other_boot, foreign}
    for file in files:
        file.touch()
    statefile.sweep(tmp_path)
    assert set(tmp_path.iterdir()) == files - {dead, recycled}


def test_an_unusable_directory_names_the_option(tmp_path):
    with pytest.raises(OptionError, match=r"ratelimit: option state_dir = .*/nowhere: its file cannot be used"):
        ratelimit.factory({}, state_dir=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("plant", ["hard link", "open to all", "fifo", "link", "another user's"])
def test_a_file_that_somebody_else_has_put_there_is_not_used(tmp_path, plant):
    """Its name can be known beforehand, and the operator's state_dir may be everybody's."""
    path, other = tmp_path / "table", tmp_path / "other"
    other.write_text("precious")
    match plant:
        case "hard link":
            path.hardlink_to(other)
        case "link":
            path.symlink_to(other)
        case "open to all":
            path.touch()
            path.chmod(0o666)
        case "fifo":
            os.mkfifo(path, 0o600)
        case _ if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        case _:
            path.touch(0o600)
            os.chown(path, 54321, 54321)
    with pytest.raises((StorageError, OSError), match=r"is not a file of this user's alone|Too many levels"):
        SharedTable(path, 1)
    assert other.read_text() == "precious"
