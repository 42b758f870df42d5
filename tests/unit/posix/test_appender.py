"""Appending where it fails: full files, readers that are absent, slow or gone, closed descriptors, several processes."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import threading
import time
import warnings
from pathlib import Path

import pytest

from apid.conf.identity import User
from apid.posix import appender
from apid.posix.appender import Appender

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "log")


@pytest.fixture
def fifo(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    return path


@contextlib.contextmanager
def at_most(size: int):
    """A full disk for this process: a file may have this size (setrlimit(2); Python ignores SIGXFSZ)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def notice(lost: int, reason: str) -> bytes:
    return f"{lost} lost: {reason}\n".encode()


def read(path: str) -> list[bytes]:
    with open(path, "rb") as file:
        return file.read().splitlines(keepends=True)


def test_a_record_that_a_full_disk_cuts_does_not_touch_the_next(path, opened):
    out = opened(path)
    with at_most(250):
        assert out.append([LINE, LINE, LINE, LINE], notice) == 2
        assert out.append([LINE], notice) == 1
        assert out.lost == 3
    assert out.append([LINE], notice) == 0
    assert out.append([LINE], notice) == 0
    assert read(path) == [LINE, LINE, b"x" * 50 + b"\n", b"3 lost: File too large\n", LINE, LINE]


def test_nor_the_next_of_another_process_that_knows_nothing_of_it(path, opened):
    before = opened(path)
    pid = os.fork()
    if pid == 0:
        out = Appender(path)
        with at_most(150):
            out.append([LINE, LINE])
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    before.append([LINE])
    before.append([LINE])
    assert read(path) == [LINE, b"x" * 50 + b"\n", LINE, LINE]


def test_who_has_cut_a_record_sees_that_another_has_begun_anew(path, opened):
    one, other = opened(path), opened(path)
    with at_most(150):
        one.append([LINE, LINE])
    other.append([LINE])
    one.append([LINE])
    assert read(path) == [LINE, b"x" * 50 + b"\n", LINE, LINE]


def test_one_that_is_opened_after_the_cut_sees_it(path, opened):
    one = opened(path)
    with at_most(150):
        one.append([LINE, LINE])
    opened(path).append([LINE])
    assert read(path) == [LINE, b"x" * 50 + b"\n", LINE]


def test_a_record_that_another_is_writing_at_the_first_look_is_not_torn(path, opened, monkeypatch):
    pread, looks = os.pread, []

    def look(*arguments):
        looks.append(pread(*arguments))
        if len(looks) == 3:
            with Path(path).open("ab") as other:
                other.write(b"whole\n")
        return looks[-1]

    Path(path).write_bytes(b"half, then ")
    monkeypatch.setattr(appender.os, "pread", look)
    opened(str(path)).append([LINE])
    assert read(path) == [b"half, then whole\n", LINE]
    assert len(looks) == 4


def test_a_torn_record_on_a_full_disk_is_not_looked_at_for_long_each_time(path, opened, monkeypatch):
    pread, looks = os.pread, []
    Path(path).write_bytes(b"x" * 50)
    out = opened(path)
    monkeypatch.setattr(appender.os, "pread", lambda *arguments: looks.append(1) or pread(*arguments))
    with at_most(50):
        assert sum(out.append([LINE]) for _ in range(200)) == 200
    assert 200 <= len(looks) < 1000  # and not twenty each time: the log waits for a part of all time only
    assert out.append([LINE]) == 0
    assert read(path) == [b"x" * 50 + b"\n", LINE]


def test_a_file_that_was_cut_by_nobody_here_is_seen_when_it_is_reopened(path, opened, tmp_path):
    one = opened(path)
    one.append([LINE])
    (tmp_path / "other").write_bytes(b"torn")
    (tmp_path / "other").replace(path)
    one.reopen()
    one.append([LINE])
    assert read(path) == [b"torn\n", LINE]


def test_a_device_that_is_full_loses_everything_and_says_why(opened):
    out = opened("/dev/full")
    assert out.append([LINE, LINE]) == 2
    assert out.reason == "No space left on device"


def test_a_fifo_opens_without_a_reader_and_keeps_what_fits(fifo, opened):
    out = opened(fifo)
    assert out.append([LINE]) == 0
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reader, 1000) == LINE
    os.close(reader)


@pytest.mark.timing
def test_a_reader_that_has_stopped_costs_little_time_and_the_lines_that_do_not_fit(fifo, opened):
    out = opened(fifo)
    begun = time.monotonic()
    lost = sum(out.append([LINE]) for _ in range(5000))
    assert time.monotonic() - begun < 4 * appender.MOST
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    kept = os.read(reader, 1 << 20)
    assert kept == LINE * (5000 - lost)
    assert out.append([LINE], notice) == 0
    assert os.read(reader, 1 << 20) == b"%d lost: nobody read it\n" % lost + LINE
    os.close(reader)


def test_a_reader_that_is_a_little_behind_loses_nothing(fifo, opened):
    out = opened(fifo)
    reader = os.open(fifo, os.O_RDONLY)
    got: list[bytes] = []
    total = 3000 * len(LINE)

    def run() -> None:
        while sum(map(len, got)) < total:
            got.append(os.read(reader, 1 << 16))

    thread = threading.Thread(target=run)
    thread.start()
    assert sum(out.append([LINE] * 10) for _ in range(300)) == 0
    thread.join()
    os.close(reader)
    assert b"".join(got) == LINE * 3000


def test_a_record_longer_than_a_pipe_that_does_not_fit_is_cut_and_the_next_begins_anew(fifo, opened):
    out = opened(fifo)
    long = b"y" * 100_000 + b"\n"
    assert out.append([long]) == 1
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.read(reader, 1 << 20)
    assert out.append([LINE], notice) == 0
    assert os.read(reader, 1 << 20) == b"\n1 lost: nobody read it\n" + LINE
    os.close(reader)


def test_it_opens_again_after_it_was_closed(path, opened):
    out = opened(path)
    out.close()
    assert out.closed
    assert out.append([LINE]) == 0
    out.close()
    out.reopen()
    assert out.append([LINE]) == 0
    assert read(path) == [LINE, LINE]


def test_a_path_that_has_become_a_fifo_and_a_file_again(path, opened):
    out = opened(path)
    os.unlink(path)
    os.mkfifo(path)
    out.reopen()
    assert out.append([LINE]) == 0
    os.unlink(path)
    out.reopen()
    assert out.append([LINE]) == 0
    assert read(path) == [LINE]


def test_a_file_that_cannot_be_reopened_leaves_the_old_one_in_use(path, opened, monkeypatch):
    """The new one is there, but cannot be given to the owner: over its quota, or on a network file system."""

    def refuse(*_):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    out = opened(path, user=User(0, 0, None))
    assert out.append([b"one\n"]) == 0
    Path(path).rename(path + ".1")
    monkeypatch.setattr(os, "fchown", refuse)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match="quota"):
        out.reopen()
    assert out.append([b"two\n"]) == 0
    assert read(path + ".1") == [b"one\n", b"two\n"]
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_native_threads_and_processes_mix_nothing_and_lose_nothing(path, opened):
    """Long lines, too: a URL of 8 KiB and headers."""
    sizes = (10, 5000, 20000)

    def work(out: Appender, letter: bytes) -> None:
        for number in range(200):
            out.append([letter * sizes[number % 3] + b"\n"])

    pids = []
    for letters in (b"ab", b"cd"):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                out = Appender(path)
                threads = [threading.Thread(target=work, args=(out, bytes([letter]))) for letter in letters]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    lines = read(path)
    assert len(lines) == 800
    assert {len(set(line)) for line in lines} == {2}
    assert sorted({len(line) - 1 for line in lines}) == list(sizes)


def test_a_child_that_is_forked_while_a_thread_writes_writes_too(path, opened):
    out = opened(path)
    out.lost = 1
    within, over = threading.Event(), threading.Event()

    def slow(lost: int, reason: str) -> bytes:
        within.set()
        over.wait(30)
        return notice(lost, reason)

    thread = threading.Thread(target=out.append, args=([LINE], slow))
    thread.start()
    within.wait(30)
    with warnings.catch_warnings(
        action="ignore"
    ):  # of a fork beside a thread (Python 3.12), which is what is tried here
        pid = os.fork()
    if pid == 0:
        signal.alarm(5)
        os._exit(out.append([LINE]))
    status = os.waitpid(pid, 0)[1]
    over.set()
    thread.join()
    assert status == 0
    assert read(path) == [LINE, b"1 lost: \n", LINE]


def test_a_directory_is_an_error(tmp_path):
    with pytest.raises(IsADirectoryError):
        Appender(str(tmp_path))


def test_python_ignores_the_signal_of_a_file_too_large():
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("then", ["append", "reopen", "close"])
def test_a_descriptor_that_other_code_closed_is_opened_again_and_its_number_left_alone(
    path, tmp_path, opened, reused, then
):
    log = opened(path)
    log.append([LINE])
    (number,) = [int(fd.name) for fd in Path("/proc/self/fd").iterdir() if _leads_to(fd.name, path)]
    os.close(number)
    if reused:
        database = os.open(tmp_path / "database", os.O_WRONLY | os.O_CREAT)
        if database != number:
            os.dup2(database, number)
            os.close(database)
    try:
        if then != "append":
            getattr(log, then)()
        assert log.append([LINE]) == 0
        log.close()
        assert not reused or _leads_to(number, tmp_path / "database")
    finally:
        if reused:
            os.close(number)
    assert (tmp_path / "log").read_bytes() == LINE * 2
    assert not reused or not (tmp_path / "database").read_bytes()


def _leads_to(fd, path):
    with contextlib.suppress(OSError):
        return Path(f"/proc/self/fd/{fd}").readlink() == Path(path)
    return False


def test_what_was_lost_is_told_by_the_process_that_lost_it(path, opened):
    """A worker goes on with the appender of its parent."""
    out = opened(path)
    with at_most(0):
        assert out.append([b"one\n"], notice) == 1
    pid = os.fork()
    if pid == 0:
        out.append([b"from the child\n"], notice)
        os._exit(0)
    os.waitpid(pid, 0)
    out.append([b"two\n"], notice)
    first, second, third = read(path)
    assert (first, third) == (b"from the child\n", b"two\n")
    assert second.startswith(b"1 lost: ")
