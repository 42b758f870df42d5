"""Shortages: of descriptors, of space on the disk."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import pathlib
import random
import resource
import signal
import time
from collections.abc import Iterator

from tests.chaos.account import Disruption
from tests.chaos.actions import action
from tests.chaos.world import Broken, World
from tests.support import processes

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18  # unshare(2), mount(2)


@contextlib.contextmanager
def descriptors(pid: int, spare: int) -> Iterator[None]:
    """Let a process have only so many descriptors more than it has now: the limit is one of numbers, so gaps count."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    held = processes.descriptors(pid)
    free = (number for number in itertools.count() if number not in held)
    limit = next(itertools.islice(free, spare, None))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@action(4)
def parent_without_descriptors(world: World, dice: random.Random) -> None:
    """A reload or upgrade while the parent's descriptor table is full, or nearly: it lives, and the verdict is true."""
    spare = dice.choice((0, 0, 1, 2, 3, 5, 8, 12))
    name = dice.choice(("HUP", "HUP", "USR2"))
    kind = "reload" if name == "HUP" else "upgrade"
    world.write(version=world.written.version + 1)
    before = world.status()["changes"][kind]
    world.note(f"    {spare} descriptors to spare, {name}")
    pid = world.daemon.pid
    known = processes.children(pid)
    with world.short_of_workers():
        # Workers that are forked meanwhile inherit the shortage; the others lose nothing. Pid -1 is nobody.
        with world.account.disrupt("lossy", pids=[-1]) as disruption:
            with descriptors(pid, spare):
                limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                used, began = processes.cpu_seconds(pid), time.monotonic()
                world.daemon.signal(getattr(signal, f"SIG{name}"))
                time.sleep(3)  # the length of the shortage
                used, passed = processes.cpu_seconds(pid) - used, time.monotonic() - began
            for child in processes.children(pid) - known:
                disruption.pids |= {child}
                with contextlib.suppress(ProcessLookupError):
                    if resource.prlimit(child, resource.RLIMIT_NOFILE) == limit:
                        resource.prlimit(child, resource.RLIMIT_NOFILE, resource.prlimit(pid, resource.RLIMIT_NOFILE))
        if used > 0.9 * passed:
            raise Broken(f"the parent used {used:.1f} s of the processor in {passed:.1f} s without descriptors")
        ended(world, kind, sum(before.values()))
        if world.status()["changes"][kind]["ok"] > before["ok"]:
            world.accept()  # the number of workers, too
            world.settled()
    world.verify()
    if world.applied != world.written:
        world.change(True)


def ended(world: World, kind: str, before: int) -> None:
    """Wait until the change has ended."""

    def over() -> bool:
        world.alive()
        status = world.status()
        return status["change"] is None and sum(status["changes"][kind].values()) > before

    processes.wait_until(over, f"the {kind} ends", 120, 0.05)


@action(3)
def worker_without_descriptors(world: World, dice: random.Random) -> None:
    """A worker cannot accept for a while; it goes on when it can."""
    ready = sorted(one["pid"] for one in world.status()["workers"] if one["stage"] == "ready")
    pid = dice.choice(ready)
    spare = dice.choice((0, 1, 3))
    with world.account.disrupt("lossy", pids=[pid]), descriptors(pid, spare):
        time.sleep(2)  # the length of the shortage
    world.account.killed.pop(pid, None)
    status = world.settled()
    if pid not in [one["pid"] for one in status["workers"]]:
        raise Broken(f"worker {pid} had no descriptors for two seconds and was replaced")
    world.verify()


def mount(path: pathlib.Path) -> None:
    """Mount a small file system, where that is allowed.

    It is in a mount namespace of our own, which ends with this process and its children: call this before anything is started.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if (
        os.geteuid() == 0
        and libc.unshare(CLONE_NEWNS) == 0
        and not libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    ):
        libc.mount(b"tmpfs", str(path).encode(), b"tmpfs", 0, b"size=8m,mode=0777")


@action(4)
def full_disk(world: World, dice: random.Random) -> None:
    """The disk of the logs is full for a while: requests are served, changes are made, and lines go on whole."""
    before = world.written
    small = os.path.ismount(world.files.small)
    log = "small/daemon.log" if small and dice.random() < 0.5 else before.log_file
    world.write(access_log="small/access.log" if small else "full", log_file=log)
    if not small and not (world.files.directory / "full").exists():
        (world.files.directory / "full").symlink_to("/dev/full")
    full = Disruption("disk", time.monotonic())
    world.account.disk.append(full)
    world.change(True)
    world.note(f"    {'a small file system' if small else '/dev/full'}, log to {log or 'standard error'}")
    with ballast(world) if small else contextlib.nullcontext():
        time.sleep(1.5)  # requests meet the full disk
        if dice.random() < 0.6:
            world.write(version=world.written.version + 1)
            world.change(True, dice.choice(("reload", "HUP", "upgrade")))
        elif dice.random() < 0.5:
            world.ask("reopen")
    time.sleep(1)  # requests meet the mended disk
    world.write(access_log=before.access_log, log_file=before.log_file)
    world.change(True)
    full.end = time.monotonic()


@contextlib.contextmanager
def ballast(world: World) -> Iterator[None]:
    """Fill the small file system to the last octet."""
    path = world.files.small / "ballast"
    with open(path, "wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    try:
        yield
    finally:
        path.unlink()
