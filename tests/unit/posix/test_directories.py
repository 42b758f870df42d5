"""Directories of a privileged process: what is walked, what is followed, and what another user could exchange."""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from pathlib import Path

import pytest

from apid.posix import directories, processes

NO_ID = 0xFFFFFFFF
STRANGER = 54321
"""A user id that nothing on the machine has."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to another user, which takes root")


def reached(path, **options):
    """What the descriptor for `path` refers to."""
    fd = directories.open_directory(str(path), **options)
    try:
        assert not os.get_inheritable(fd)
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    finally:
        os.close(fd)


def refused(path, **options):
    """The reason why `path` is refused."""
    with pytest.raises(OSError) as caught:
        reached(path, **options)
    assert caught.value.errno == errno.EPERM, caught.value
    return caught.value.strerror


@pytest.fixture
def tree(tmp_path):
    """A directory `a/b/c` of this user's, which nobody else can write to."""
    deepest = tmp_path / "a" / "b" / "c"
    deepest.mkdir(parents=True)
    for each in (tmp_path, deepest, *deepest.parents[:2]):
        each.chmod(0o755)
    return tmp_path


def test_a_path_of_trusted_directories_is_opened(tree):
    assert reached("/") == "/"
    assert reached(tree / "a/b/c", exclusive=True) == str(tree / "a/b/c")
    assert reached(f"{tree}//a/./b/../b/c/", exclusive=True) == str(tree / "a/b/c")


def test_links_of_trusted_users_are_followed(tree):
    (tree / "absolute").symlink_to(tree / "a" / "b")
    (tree / "a" / "relative").symlink_to("../absolute/c")
    assert reached(tree / "a" / "relative", exclusive=True) == str(tree / "a/b/c")


def test_what_is_not_there_is_named(tree):
    (tree / "a" / "file").write_text("")
    (tree / "a" / "loop").symlink_to("loop")
    with pytest.raises(FileNotFoundError):
        reached(tree / "a" / "none" / "c")
    with pytest.raises(NotADirectoryError):
        reached(tree / "a" / "file" / "c")
    with pytest.raises(OSError, match="Too many levels"):
        reached(tree / "a" / "loop" / "c")


@as_root
def test_a_directory_of_another_user_may_be_the_last_one_only(tree):
    os.chown(tree / "a" / "b", STRANGER, STRANGER)
    assert reached(tree / "a" / "b") == str(tree / "a/b")
    text = f"the directory {tree}/a/b belongs to user {STRANGER}"
    assert refused(tree / "a" / "b", exclusive=True).startswith(text)
    assert refused(tree / "a" / "b" / "c").startswith(text)


@as_root
@pytest.mark.parametrize(
    ("mode", "gid", "why"), [(0o777, 0, "by everybody"), (0o775, STRANGER, f"by group {STRANGER}"), (0o775, 0, None)]
)
def test_a_directory_that_others_may_write_to(tree, mode, gid, why):
    """logrotate(8) draws the same line: the group of root is root's."""
    os.chown(tree / "a", 0, gid)
    (tree / "a").chmod(mode)
    assert reached(tree / "a") == str(tree / "a")
    for path, options in [(tree / "a" / "b", {}), (tree / "a", {"exclusive": True})]:
        if why is None:
            assert reached(path, **options) == str(path)
        else:
            assert refused(path, **options).startswith(f"the directory {tree}/a is writable {why}")


@as_root
def test_in_a_sticky_directory_the_owner_of_the_entry_counts(tree):
    (tree / "a").chmod(0o1777)
    assert reached(tree / "a" / "b" / "c") == str(tree / "a/b/c")
    assert "is writable by everybody" in refused(tree / "a", exclusive=True), "anybody may make an entry"
    os.chown(tree / "a" / "b", STRANGER, STRANGER)
    assert "is writable by everybody" in refused(tree / "a" / "b")


@as_root
def test_a_link_that_another_user_could_have_planted_is_not_followed(tree):
    link = tree / "a" / "link"
    link.symlink_to("b")
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    assert refused(link / "c").startswith(f"the symbolic link {link} belongs to user {STRANGER}")
    (tree / "a").chmod(0o1777)
    assert refused(link).startswith(f"the directory {tree}/a is writable by everybody")


@pytest.mark.parametrize("hard", [True, False])
def test_a_link_with_a_second_name_may_have_been_put_where_it_is(tree, monkeypatch, hard):
    """Unless the kernel protects hard links (proc(5)), anybody can give a link of root's another place."""
    monkeypatch.setattr(directories, "privileged", lambda: True)
    (tree / "link").symlink_to("a")
    if hard:
        os.link(tree / "link", tree / "a" / "other", follow_symlinks=False)
        assert "has several names" in refused(tree / "link")
    else:
        assert reached(tree / "link") == str(tree / "a")


@as_root
def test_a_link_out_of_a_safe_directory_into_an_unsafe_one(tree):
    os.chown(tree / "a" / "b", STRANGER, STRANGER)
    (tree / "link").symlink_to("a/b/c")
    assert refused(tree / "link").startswith(f"the directory {tree}/a/b belongs to user {STRANGER}")


@as_root
def test_the_owner_of_the_root_directory_is_trusted(tree):
    """In a container or user namespace that may be another user than 0, who can exchange every path anyway."""
    for each in (tree, tree / "a", tree / "a" / "b"):
        os.chown(each, STRANGER, STRANGER)

    def child():
        os.chroot(tree)
        os.close(directories.open_directory("/a/b/c", exclusive=True))
        os._exit(0)

    assert processes.wait(processes.fork(child)) == 0


@as_root
def test_an_unprivileged_process_loses_nothing():
    with tempfile.TemporaryDirectory() as name:  # that of pytest is root's only
        tree = Path(name)
        (tree / "a" / "b").mkdir(parents=True)
        tree.chmod(0o755)
        (tree / "a").chmod(0o777)
        os.chown(tree / "a" / "b", STRANGER + 1, STRANGER)
        os.seteuid(STRANGER)
        try:
            assert not directories.privileged()
            assert reached(tree / "a" / "b", exclusive=True) == str(tree / "a/b")
        finally:
            os.seteuid(0)
    assert directories.privileged()


def test_no_descriptor_is_left(tree, monkeypatch):
    """The fixture of all tests looks for descriptors; here each kind of failure happens once more, in a privileged process."""
    monkeypatch.setattr(directories, "privileged", lambda: True)
    (tree / "a").chmod(0o777)
    for path in ("a/b", "none", "a/b/none"):
        with pytest.raises(OSError):
            reached(tree / path, exclusive=True)


@as_root
def test_an_access_control_list_lets_others_write(tree):
    """The group of root has these permissions in the mode, but they are the mask of the list."""
    entries = [(1, 7, NO_ID), (2, 7, 65534), (4, 5, NO_ID), (0x10, 7, NO_ID), (0x20, 5, NO_ID)]  # tag, permissions, id
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.chown(tree / "a", 0, 0)
    try:
        os.setxattr(tree / "a", "system.posix_acl_access", packed)
    except OSError as error:
        pytest.skip(f"the file system has no access control lists: {error}")
    assert "is writable by an entry of its access control list" in refused(tree / "a", exclusive=True)
