"""Lock files and files of sockets where others plant what they can: nothing is followed, opened, changed or given away."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import signal
import socket
import stat
import time

import pytest

from apid.posix import processes, socketfile
from apid.posix.lockfile import HeldError, LockFile, holder, obstacle

STRANGER = 54321
"""A user id that nothing on the machine has."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as two users, which takes root")


def test_a_lock_file_is_its_users_alone(tmp_path):
    """Permission to read is enough for a read lock, which would block a start while the file is stale."""
    lock = LockFile(str(tmp_path / "lock"))
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    lock.remove()
    assert list(tmp_path.iterdir()) == []


def test_names_as_long_as_the_kernel_takes_them(tmp_path):
    """255 bytes of a name; 107 of a socket's path (unix(7)), which its lock file may exceed."""
    LockFile(str(tmp_path / ("p" * 255))).remove()
    (tmp_path / "s").mkdir()
    path = str(tmp_path / "s") + "/"
    path += "s" * (107 - len(path))
    sock, file = socketfile.listen(path, 1)
    sock.close()
    file.remove()
    assert list((tmp_path / "s").iterdir()) == []


def test_one_that_is_taken_twice_is_removed_at_the_second_end(tmp_path):
    """Record locks do not exclude the process itself, and a second descriptor of the file would end the first one's lock."""
    first = LockFile.take(str(tmp_path / "lock"))
    (tmp_path / "other").symlink_to(tmp_path)
    assert LockFile.take(str(tmp_path / "other" / "lock")) is first
    with pytest.raises(OSError, match="this daemon holds it already"):
        LockFile(str(tmp_path / "lock"))
    first.remove()
    assert held_for_others(tmp_path / "lock")
    first.remove()
    assert not (tmp_path / "lock").exists()


def held_for_others(path):
    """Whether another process finds the file locked by this one."""

    def child():
        try:
            LockFile(str(path))
        except HeldError as error:
            os._exit(0 if error.pid == str(os.getppid()) and holder(str(path)) == os.getppid() else 1)
        os._exit(2)

    return processes.wait(processes.fork(child)) == 0


def test_a_child_keeps_no_descriptor_of_it(tmp_path):
    lock = LockFile(str(tmp_path / "lock"))

    def child():
        mine = [str(link.readlink()) for link in pathlib.Path("/proc/self/fd").iterdir() if link.is_symlink()]
        os._exit(any(str(tmp_path) in name for name in mine))

    assert processes.wait(processes.fork(child)) == 0
    assert held_for_others(tmp_path / "lock")
    lock.remove()


def test_one_whose_directory_was_made_again_is_made_again(tmp_path):
    path = tmp_path / "run" / "lock"
    path.parent.mkdir()
    old = LockFile.take(str(path))
    path.unlink()
    path.parent.rmdir()
    path.parent.mkdir()
    new = LockFile.take(str(path))
    assert new is not old
    old.remove()
    assert held_for_others(path)
    new.remove()
    assert list(path.parent.iterdir()) == []


def plant(kind, path, dear):
    """Put something at `path`; `dear` is a file of root's."""
    match kind:
        case "link":
            path.symlink_to(dear)
        case "dangling link":
            path.symlink_to(dear.with_name("new"))
        case "hard link":
            os.link(dear, path)
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "device":
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(10, 130))  # a watchdog: an open(2) of it starts it
        case "socket":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(path))


REPLACED = ("link", "dangling link", "hard link")


@as_root
@pytest.mark.parametrize("kind", [*REPLACED, "pipe", "directory", "device", "socket"])
def test_what_lies_at_its_path_is_not_touched(tmp_path, kind):
    path, dear = tmp_path / "run" / "lock", tmp_path / "dear"
    path.parent.mkdir()
    dear.write_text("dear")
    dear.chmod(0o600)
    before = dear.stat()
    plant(kind, path, dear)
    if kind in REPLACED:
        assert obstacle(str(path)) is None
        lock = LockFile(str(path))
        assert path.read_text() == f"{os.getpid()}\n"
        assert not path.is_symlink()
        lock.remove()
        assert list(path.parent.iterdir()) == []
    else:
        assert obstacle(str(path)).errno == errno.EINVAL
        with pytest.raises(OSError, match="no regular file"):
            LockFile(str(path))
        assert [entry.name for entry in path.parent.iterdir()] == ["lock"]
    after = dear.stat()
    assert dear.read_text() == "dear"
    for name in ("st_uid", "st_mode", "st_mtime_ns", "st_nlink", "st_ino"):
        assert getattr(before, name) == getattr(after, name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dear", "run"]


@contextlib.contextmanager
def another_user(act):
    """A process of another user, which calls `act` again and again."""

    def child():
        os.setgroups([])
        os.setresgid(STRANGER, STRANGER, STRANGER)
        os.setresuid(STRANGER, STRANGER, STRANGER)
        while True:
            with contextlib.suppress(OSError):
                act()

    pid = processes.fork(child)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        processes.wait(pid)


@pytest.fixture
def world(tmp_path_factory):
    """A directory of the other user's, `theirs`, and one of root's, `ours`, which the other one may look into."""
    top = tmp_path_factory.mktemp("world")
    for name in ("theirs", "ours"):
        (top / name).mkdir(mode=0o755)
    (top / "ours" / "dear").write_text("dear")
    (top / "ours" / "dear").chmod(0o600)
    os.chown(top / "theirs", STRANGER, STRANGER)
    opened = [each for each in (top, *top.parents) if each.stat().st_mode & 0o077 == 0]
    for each in opened:
        each.chmod(0o711)
    yield top
    for each in opened:
        each.chmod(0o700)


CALLS = [(os, name) for name in ("open", "write", "link", "replace", "unlink", "stat", "lstat", "fstat", "pread")]
CALLS += [(socket.socket, name) for name in ("bind", "connect", "listen")]


@as_root
@pytest.mark.parametrize("planted", ["link", "dangling link", "hard link"])
@pytest.mark.parametrize(("owner", "name"), CALLS, ids=[name for _, name in CALLS])
def test_a_user_who_owns_the_directory_leads_root_nowhere(world, monkeypatch, owner, name, planted):
    """Before any call, that user replaces everything there; with hard links, where the kernel permits them."""
    theirs, dear = world / "theirs", world / "ours" / "dear"
    before, real, at = dear.stat(), getattr(owner, name), -1

    def call(*args, **more):
        nonlocal at
        at -= 1
        if at == 0:
            for each in list(theirs.iterdir()):
                each.rename(world / "away")
                plant(planted, each, dear)
        return real(*args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, call)
        for number in range(1, 20):
            for take in (
                lambda: socketfile.listen(str(theirs / "sock"), 1),
                lambda: LockFile(str(theirs / "sock"), mode=0o644),
            ):
                at = number
                with contextlib.suppress(OSError):
                    taken = take()
                    if isinstance(taken, LockFile):
                        taken.remove()
                    else:
                        with taken[0]:
                            with contextlib.suppress(OSError):
                                taken[1].set_mode(0)
                            taken[1].remove()
                at = -1
                assert planted == "hard link" or dear.stat().st_nlink == 1
                for each in list(theirs.iterdir()):
                    each.unlink()
    after = dear.stat()
    assert dear.read_text() == "dear"
    for fact in ("st_uid", "st_mode", "st_mtime_ns", "st_nlink"):
        assert getattr(before, fact) == getattr(after, fact)
    assert [entry.name for entry in (world / "ours").iterdir()] == ["dear"]


@as_root
def test_a_user_who_owns_a_directory_above_leads_root_nowhere(world):
    """`theirs/run` is now root's directory and now a link to another one of root's: both are refused."""
    (world / "theirs" / "run").mkdir()
    (world / "theirs" / "link").symlink_to(world / "ours")

    def act():
        for one, other in [("run", "was"), ("link", "run"), ("run", "link"), ("was", "run")]:
            os.rename(world / "theirs" / one, world / "theirs" / other)  # noqa: PTH104 - in a loop: fast

    end = time.monotonic() + 0.5
    with another_user(act):
        while time.monotonic() < end:
            for take in (LockFile.take, lambda path: socketfile.listen(path, 1)):
                with pytest.raises(OSError) as caught:
                    take(str(world / "theirs" / "run" / "path"))
                assert caught.value.errno in (errno.EPERM, errno.ENOENT)
    assert [entry.name for entry in (world / "ours").iterdir()] == ["dear"]


@pytest.mark.parametrize("kind", ["lock", "mode"])
def test_a_socket_that_was_adopted_without_its_file(tmp_path, kind):
    """The lock holds the path all the same, and the file that lies there then is left alone."""
    path = tmp_path / "sock"
    file = socketfile.SocketFile.claim(str(path))
    assert file.lock.is_at(f"{path}.lock")
    assert not file.reachable
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        path.chmod(0o600)
        if kind == "mode":
            file.set_mode(0)
        file.remove()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["sock"]


@as_root
@pytest.mark.parametrize("theirs", [True, False])
def test_root_changes_no_mode_where_another_user_can_exchange_the_file(tmp_path, theirs):
    """That user may have put the control socket, which is root's too, there before it was known which file had been bound."""
    path = tmp_path / "run" / "sock"
    path.parent.mkdir()
    if theirs:
        os.chown(path.parent, STRANGER, STRANGER)
    sock, file = socketfile.listen(str(path), 1, 0o177)
    with sock:
        file.set_mode(0o177)  # nothing to change
        with pytest.raises(OSError, match=f"{path.parent} belongs to user") if theirs else contextlib.nullcontext():
            file.set_mode(0)
    assert stat.S_IMODE(path.stat().st_mode) == (0o600 if theirs else 0o777)
    file.remove()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("planted", ["link", "file", "second name", "nothing"])
def test_the_mode_of_what_lies_there_instead_is_left_alone(tmp_path, planted):
    path, dear = tmp_path / "a", tmp_path / "dear"
    dear.write_text("")
    dear.chmod(0o600)
    sock, file = socketfile.listen(str(path), 16, 0o177)
    with sock:
        if planted == "second name":  # of another socket, put there before it was known which file it is
            dear.unlink()
            os.link(path, dear)
        else:
            path.unlink()
        if planted == "link":
            path.symlink_to(dear)
        elif planted == "file":
            dear.rename(path)
            dear = path
        file.set_mode(0)
    assert stat.S_IMODE(dear.stat().st_mode) == 0o600
    file.lock.remove()
