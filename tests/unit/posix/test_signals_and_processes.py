"""Signals as bytes, forks, privileges: each looked at from a real child."""

from __future__ import annotations

import ctypes
import os
import pwd
import select
import signal
import subprocess
import sys

import pytest

from apid.conf import identity
from apid.errors import ConfigError
from apid.posix import processes, signals
from tests.support.processes import wait_until


@pytest.fixture
def bell():
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGUSR1, signal.SIGHUP)}
    one = signals.SignalPipe([signal.SIGUSR1, signal.SIGHUP])
    yield one
    one.close()
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda: signal.signal(signal.SIGUSR1, signal.SIG_DFL), ["the handler of SIGUSR1"]),
        (lambda: signal.signal(signal.SIGHUP, lambda *_: None), ["the handler of SIGHUP"]),
        (lambda: ctypes.CDLL(None).signal(int(signal.SIGHUP), 0), ["the handler of SIGHUP"]),
        (lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}), ["the mask of SIGUSR1"]),
        (lambda: signal.set_wakeup_fd(-1), ["the wakeup descriptor of signals"]),
    ],
    ids=["default", "handler", "behind Python's back", "mask", "wakeup"],
)
def test_what_other_code_changes_is_put_back(bell, change, found):
    assert bell.hold() == []
    change()
    assert bell.hold() == found
    for signum in (signal.SIGUSR1, signal.SIGHUP):
        os.kill(os.getpid(), signum)
        wait_until(lambda: select.select([bell], [], [], 0)[0], "the bell", 5)
    assert set(bell.read()) == {signal.SIGUSR1, signal.SIGHUP}
    assert bell.hold() == []


def test_a_spare_signal_may_have_a_handler_of_other_code_and_does_not_end_the_process():
    before = signal.getsignal(signal.SIGALRM)
    bell = signals.SignalPipe([signal.SIGUSR1], [signal.SIGALRM])
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        assert bell.hold() == []
        os.kill(os.getpid(), signal.SIGALRM)
        wait_until(lambda: select.select([bell], [], [], 0)[0], "the bell", 5)
        assert bell.read() == [signal.SIGALRM]
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        assert bell.hold() == []
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN
    finally:
        bell.close()
        signal.signal(signal.SIGALRM, before)


def in_a_child(work):
    """Run `work` in a forked child; returns what it returned, as text, and the exit code."""
    read, write = os.pipe()

    def child():
        os.close(read)
        os.write(write, str(work()).encode())
        os._exit(0)

    pid = processes.fork(child)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        text = file.read().decode()
    return text, processes.wait(pid)


def test_signals_arrive_as_numbers_in_their_order(bell):
    for signum in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1):
        os.kill(os.getpid(), signum)
        wait_until(lambda: select.select([bell], [], [], 0)[0], "the bell", 5)
    assert bell.read() == [signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1]
    assert bell.read() == []


def test_all_signals_at_once_do_not_nest():
    """With faulthandler's alternate stack, nested handlers overwrote the heap."""
    code = (
        "import faulthandler, os, signal, sys\n"
        "faulthandler.enable()\n"
        "from apid.posix import processes, signals\n"
        "bell = signals.SignalPipe(processes.SIGNALS_OF_THE_PARENT)\n"
        "for turn in range(200):\n"
        "    signals.block_all()\n"
        "    for signum in processes.SIGNALS_OF_THE_PARENT: os.kill(os.getpid(), signum)\n"
        "    signals.unblock_all()\n"
        "    got = sorted(bell.read())\n"
        "    junk = [bytes(n) for n in range(2000)]\n"
        "    assert got == sorted(map(int, processes.SIGNALS_OF_THE_PARENT)), got\n"
        "bell.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done


def test_a_storm_larger_than_the_buffer_is_no_error(bell):
    for _ in range(5000):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert set(bell.read()) == {signal.SIGUSR1}


def test_a_child_does_not_ring_its_parents_bell(bell):
    def work():
        signals.forget_inherited([signal.SIGUSR1, signal.SIGHUP])
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signals.unblock_all()
        os.kill(os.getpid(), signal.SIGUSR1)
        return signal.getsignal(signal.SIGHUP) == signal.SIG_DFL

    assert in_a_child(work) == ("True", 0)
    assert bell.read() == []


def test_a_fork_happens_with_all_signals_blocked_and_the_parents_mask_comes_back():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    text, code = in_a_child(lambda: signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, []))
    assert (text, code) == ("True", 0)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_an_exception_in_a_child_ends_there(capfd):
    def child():
        raise RuntimeError("in the child")

    assert processes.wait(processes.fork(child)) == 70
    assert "in the child" in capfd.readouterr().err


def test_ends_are_reaped_with_code_or_signal():
    def ends(how):
        def child():
            how()
            os._exit(0)

        return processes.fork(child)

    def killed():
        signals.unblock_all()
        os.kill(os.getpid(), signal.SIGKILL)

    pids = {ends(lambda: os._exit(7)): "exit:7", ends(killed): "crash:SIGKILL"}
    found = {}
    wait_until(lambda: found.update(processes.reap()) or set(pids) <= set(found), "both are reaped", 5)
    assert {pid: processes.describe_end(found[pid]) for pid in pids} == pids
    assert processes.kill(next(iter(pids)), 0) is False
    assert processes.resident_bytes(next(iter(pids))) == 0
    assert processes.resident_bytes() > 2**20
    assert signals.name(signal.SIGTERM) == "SIGTERM"
    assert signals.name(40) == "signal 40"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_privileges_are_dropped_for_good():
    nobody = pwd.getpwnam("nobody")

    def work():
        processes.drop_privileges(identity.of("nobody", None), 0o027)
        try:
            os.setuid(0)
        except PermissionError:
            back = False
        else:
            back = True
        import ctypes

        dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
        return [os.getresuid(), os.getresgid(), 0 in os.getgroups(), os.umask(0), back, dumpable]

    ids = (nobody.pw_uid,) * 3, (nobody.pw_gid,) * 3
    assert in_a_child(work) == (str([*ids, False, 0o027, False, 1]), 0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
@pytest.mark.parametrize(("group", "gid"), [(None, 54321), ("54322", 54322)])
def test_a_number_that_nobody_knows_is_a_user_in_no_other_group(group, gid):
    def work():
        processes.drop_privileges(identity.of("54321", group), None)
        return os.getresuid(), os.getresgid(), os.getgroups()

    assert in_a_child(work) == (str(((54321,) * 3, (gid,) * 3, [gid])), 0)


@pytest.mark.parametrize(
    ("user", "group", "text"),
    [
        ("no-such-user", None, "option user: no-such-user: there is no such user"),
        (None, "no-group", "option group: no-group: there is no such group"),
    ],
)
def test_who_is_not_there_is_named(user, group, text):
    with pytest.raises(ConfigError, match=text):
        identity.of(user, group)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not")
def test_who_may_not_change_is_told():
    def work():
        os.setresuid(65534, 65534, 65534)
        try:
            processes.drop_privileges(identity.of("root", None), None)
        except ConfigError as error:
            return error
        return "it could"

    text, _ = in_a_child(work)
    assert "only root may change" in text


def test_numbers_name_users_too():
    me = str(os.getuid())
    assert in_a_child(lambda: processes.drop_privileges(identity.of(me, str(os.getgid())), None)) == ("None", 0)
    assert sys.platform == "linux"
