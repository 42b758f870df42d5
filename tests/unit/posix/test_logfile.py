"""Files that a root process appends to where another user may write: nothing of root's is written, made or given away."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from apid.conf.identity import User
from apid.posix import acting, logfile
from tests.support import unprivileged
from tests.support.processes import wait_until

WORKERS = User(54321, 54321, None)
STRANGER = 54322
"""User ids that nothing on the machine has."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led where others may not go")


@pytest.fixture
def top():
    """A directory of root's that everybody may look into."""
    yield from unprivileged.open_directory()


@pytest.fixture
def secrets(top):
    """A directory of root's with a file `secret` for root only."""
    made = top / "secrets"
    made.mkdir(mode=0o755)
    (made / "secret").write_text("secret")
    (made / "secret").chmod(0o600)
    return made


@pytest.fixture
def logs(top):
    """The workers' user's directory."""
    made = top / "logs"
    made.mkdir()
    os.chown(made, WORKERS.uid, WORKERS.gid)
    return made


def untouched(secrets: Path) -> bool:
    """Whether the directory is as the fixture has made it."""
    found = (secrets / "secret").stat()
    kept = (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_size) == (0, 0, 0o600, 6)
    return kept and [each.name for each in secrets.iterdir()] == ["secret"]


def written(path: Path, user: User | None = WORKERS) -> tuple[int, int, str]:
    """Append to `path`; return who owns what was opened, and its path."""
    fd = logfile.open_to_append(str(path), 0o640, user)
    try:
        os.write(fd, b"line\n")
        found = os.fstat(fd)
        return found.st_uid, found.st_gid, str(Path(f"/proc/self/fd/{fd}").readlink())
    finally:
        os.close(fd)


def refused(path: Path, user: User | None = WORKERS) -> str:
    """The reason why `path` is refused."""
    with pytest.raises(OSError) as caught:
        written(path, user)
    return str(caught.value.strerror)


def link(logs: Path, secrets: Path) -> None:
    (logs / "apid.log").symlink_to(secrets / "secret")


def relative_link(logs: Path, secrets: Path) -> None:
    (logs / "apid.log").symlink_to(f"../{secrets.name}/secret")


def chain_of_links(logs: Path, secrets: Path) -> None:
    (logs / "apid.log").symlink_to("next")
    (logs / "next").symlink_to(secrets / "secret")


def dangling_link(logs: Path, secrets: Path) -> None:
    (logs / "apid.log").symlink_to(secrets / "new")


def hard_link(logs: Path, secrets: Path) -> None:
    (logs / "apid.log").hardlink_to(secrets / "secret")


def file_of_root(logs: Path, secrets: Path) -> None:
    """What a hard link is once its other name has gone, as /etc/shadow at the next change of a password."""
    del secrets
    (logs / "apid.log").write_text("")
    (logs / "apid.log").chmod(0o600)


PLANTS = [link, relative_link, chain_of_links, dangling_link, hard_link, file_of_root]


@pytest.mark.parametrize("plant", PLANTS)
def test_what_the_workers_user_plants_leads_nowhere(logs, secrets, plant):
    plant(logs, secrets)
    assert f"the directory {logs} belongs to user {WORKERS.uid}" in refused(logs / "apid.log")
    if plant is hard_link:
        (logs / "apid.log").unlink()
    assert untouched(secrets)


@pytest.mark.parametrize("name", ["secret", "new"])
def test_a_directory_on_the_way_that_is_a_link(logs, secrets, name):
    (logs / "sub").symlink_to(secrets)
    assert f"the directory {logs} belongs to user {WORKERS.uid}" in refused(logs / "sub" / name)
    assert untouched(secrets)


def test_a_device_is_not_opened_with_the_rights_of_root(logs):
    os.mknod(logs / "apid.log", 0o600 | stat.S_IFCHR, os.makedev(1, 7))
    assert f"the directory {logs} belongs to user {WORKERS.uid}" in refused(logs / "apid.log")


def test_a_fifo_without_a_reader_does_not_wait(logs):
    os.mkfifo(logs / "apid.log")
    os.chown(logs / "apid.log", WORKERS.uid, WORKERS.gid)
    assert written(logs / "apid.log") == (WORKERS.uid, WORKERS.gid, str(logs / "apid.log"))


def test_a_file_in_the_users_directory_is_the_users(logs):
    for _ in range(2):
        assert written(logs / "apid.log") == (WORKERS.uid, WORKERS.gid, str(logs / "apid.log"))
    assert (logs / "apid.log").read_text() == "line\nline\n"


def test_a_link_of_the_users_to_a_file_of_the_users_is_followed(logs):
    (logs / "apid.log").symlink_to("today.log")
    assert written(logs / "apid.log") == (WORKERS.uid, WORKERS.gid, str(logs / "today.log"))


def test_only_what_was_made_is_given_away(top):
    made, older = top / "made.log", top / "older.log"
    older.write_text("")
    assert written(made) == (WORKERS.uid, WORKERS.gid, str(made))
    assert written(older) == (0, 0, str(older))
    assert older.read_text() == "line\n"


def test_links_of_root_are_followed(top, logs):
    (top / "apid.log").symlink_to("target.log")
    assert written(top / "apid.log") == (WORKERS.uid, WORKERS.gid, str(top / "target.log"))
    (top / "other.log").symlink_to(logs / "of-the-user.log")
    assert written(top / "other.log") == (WORKERS.uid, WORKERS.gid, str(logs / "of-the-user.log"))


@pytest.mark.parametrize("user", [WORKERS, None])
def test_a_standard_stream_by_its_name(top, user):
    reading, writing = os.pipe()
    (top / "apid.log").symlink_to(f"/proc/self/fd/{writing}")
    try:
        assert written(top / "apid.log", user)[2].startswith("pipe:")
        assert os.read(reading, 9) == b"line\n"
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("plant", PLANTS[:-1])
def test_a_root_process_of_root_workers_follows_nothing_of_others(logs, secrets, plant):
    plant(logs, secrets)
    reason = refused(logs / "apid.log", None)
    expected = "it has 2 names (hard links)" if plant is hard_link else f"the directory {logs} belongs to user"
    assert expected in reason
    if plant is hard_link:
        (logs / "apid.log").unlink()
    assert untouched(secrets)


def test_a_root_process_of_root_workers_writes_where_it_is_told_to(logs):
    assert written(logs / "sub.log", None) == (0, 0, str(logs / "sub.log"))
    (logs / "older.log").write_text("")
    os.chown(logs / "older.log", WORKERS.uid, WORKERS.gid)
    assert written(logs / "older.log", None) == (WORKERS.uid, WORKERS.gid, str(logs / "older.log"))


def test_a_sticky_directory_is_nobodys(top):
    """As /tmp, where the kernel's own protection may be off."""
    shared = top / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "apid.log").write_text("")
    os.chown(shared / "apid.log", STRANGER, STRANGER)
    assert refused(shared / "apid.log", None) == f"it belongs to user {STRANGER}, and others may write to its directory"
    assert written(shared / "fresh.log", None) == (0, 0, str(shared / "fresh.log"))


SWAP = """
import itertools, os, sys
os.setresuid({uid}, {uid}, {uid})
os.chdir(sys.argv[1])
print("swapping", flush=True)
for target in itertools.cycle([sys.argv[2], "real"]):
    os.symlink(target, "next")
    os.replace("next", "sub")
    os.rename("real/apid.log", "real/old.log") if os.path.exists("real/apid.log") else None
    if os.getppid() != {parent}:
        break
"""


@pytest.mark.parametrize("user", [WORKERS, None], ids=["as the user", "as root"])
def test_a_directory_that_is_exchanged_all_the_time(logs, secrets, user):
    (logs / "real").mkdir()
    os.chown(logs / "real", WORKERS.uid, WORKERS.gid)
    (logs / "sub").symlink_to("real")
    code = SWAP.format(uid=WORKERS.uid, parent=os.getpid())
    with subprocess.Popen([sys.executable, "-c", code, logs, secrets], stdout=subprocess.PIPE) as swapper:
        try:
            assert swapper.stdout is not None
            assert swapper.stdout.readline() == b"swapping\n"
            there, reached = (logs / "sub").readlink(), 0
            wait_until(lambda: (logs / "sub").readlink() != there, "the first exchange", 10)
            for _ in range(500):
                with contextlib.suppress(OSError):
                    written(logs / "sub" / "apid.log", user)
                    reached += 1
            assert swapper.poll() is None
        finally:
            swapper.kill()
    assert untouched(secrets)
    assert reached == 0 if user is None else reached > 0


def test_acting_changes_nothing_for_good(top):
    prctl = ctypes.CDLL(None).prctl
    before = os.getresuid(), os.getresgid(), os.getgroups(), prctl(3, 0, 0, 0, 0)
    with acting.acting_as(User(65534, 65534, "nobody")):
        assert (os.getresuid(), os.getresgid()) == ((0, 65534, 0), (0, 65534, 0))
        assert os.getgroups() == [65534]
        with (
            pytest.raises(PermissionError),
            acting.acting_as(WORKERS),
        ):  # one inside the other is no way back to root
            (top / "file").touch()
    assert (os.getresuid(), os.getresgid(), os.getgroups(), prctl(3, 0, 0, 0, 0)) == before


@pytest.fixture
def shared(top):
    """A directory of root's in which a group writes that the workers' user is not in, as /var/log of Ubuntu."""
    made = top / "shared"
    made.mkdir()
    os.chown(made, 0, STRANGER)
    made.chmod(0o775)
    return made


def test_the_directory_of_a_group_that_the_workers_are_not_in(shared, secrets):
    assert written(shared / "apid.log")[:2] == (WORKERS.uid, WORKERS.gid)
    (shared / "apid").mkdir(mode=0o755)
    assert written(shared / "apid" / "apid.log")[:2] == (WORKERS.uid, WORKERS.gid)
    (shared / "away").symlink_to(secrets)
    assert "does not follow the symbolic link" in refused(shared / "away" / "new.log")
    os.link(secrets / "secret", shared / "hard.log")
    (shared / "soft.log").symlink_to(secrets / "secret")
    assert "2 names" in refused(shared / "hard.log")
    assert "does not follow the symbolic link" in refused(shared / "soft.log")
    (shared / "hard.log").unlink()
    assert untouched(secrets)


def test_what_such_a_group_puts_there_cannot_be_read_by_the_workers(shared):
    (shared / "apid.log").write_text("of root's\n")
    (shared / "apid.log").chmod(0o600)
    fd = logfile.open_to_append(str(shared / "apid.log"), 0o640, WORKERS)
    try:
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        assert os.fstat(fd).st_uid == 0
    finally:
        os.close(fd)


def test_the_directory_of_a_group_that_the_workers_are_in_is_refused(shared):
    os.chown(shared, 0, WORKERS.gid)
    shared.chmod(0o775)
    (shared / "apid.log").write_text("of root's\n")
    (shared / "apid.log").chmod(0o600)
    assert "writable by group" in refused(shared / "apid.log")
