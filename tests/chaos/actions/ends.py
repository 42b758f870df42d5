"""Ends: of workers, of the parent, of the daemon, at any moment; and the start after it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time

from tests.chaos.actions import action
from tests.chaos.world import LONG, Broken, World
from tests.support.processes import wait_until


def worker(world: World, dice: random.Random) -> int:
    """Choose a worker that is ready."""
    ready = [one["pid"] for one in world.status()["workers"] if one["stage"] == "ready"]
    return int(dice.choice(sorted(ready)))


def gone(world: World, pid: int) -> None:
    """Wait until the parent has noticed that a worker ended."""
    wait_until(lambda: pid not in [one["pid"] for one in world.status()["workers"]], f"{pid} is gone", LONG, 0.05)


@action(6)
def worker_killed(world: World, dice: random.Random) -> None:
    """KILL to a worker: its requests are lost, nobody else's; a new one comes."""
    pid = worker(world, dice)
    with world.short_of_workers(), world.account.disrupt("lossy", pids=[pid]):
        os.kill(pid, signal.SIGKILL)
        gone(world, pid)
    world.verify()


@action(4)
def worker_told_to_leave(world: World, dice: random.Random) -> None:
    """TERM to a worker: it drains, and loses nothing."""
    pid = worker(world, dice)
    with world.short_of_workers():
        os.kill(pid, signal.SIGTERM)
        gone(world, pid)
    world.verify()


@action(3)
def worker_signals(world: World, dice: random.Random) -> None:
    """Signals that mean nothing to a worker."""
    pid = worker(world, dice)
    for name in dice.sample(("INT", "HUP", "USR1", "TTIN", "TTOU", "WINCH", "USR2", "PIPE"), 3):
        os.kill(pid, getattr(signal, f"SIG{name}"))
    world.verify()


@action(4)
def stopped_and_continued(world: World, dice: random.Random) -> None:
    """STOP and CONT, shorter than worker_timeout, to a worker or to the parent: nobody is accused, nothing is lost."""
    pid = dice.choice((worker(world, dice), world.daemon.pid))
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.5 + 2.5 * dice.random())  # the length of the stop
    os.kill(pid, signal.SIGCONT)
    status = world.settled()
    if pid not in [status["pid"], *(one["pid"] for one in status["workers"])]:
        raise Broken(f"{pid} was stopped for less than worker_timeout and replaced")
    world.verify()


@action(1)
def hung_worker(world: World, dice: random.Random) -> None:
    """STOP for longer than worker_timeout: the worker is killed and replaced."""
    before = world.written
    world.write(more=(*((k, v) for k, v in before.more if k != "worker_timeout"), ("worker_timeout", 6)))
    world.change()
    pid = worker(world, dice)
    with world.short_of_workers(), world.account.disrupt("lossy", pids=[pid]):
        os.kill(pid, signal.SIGSTOP)
        gone(world, pid)
    world.write(more=before.more)
    world.change()


@action(6)
def killed_during_a_change(world: World, dice: random.Random) -> None:
    """A worker or a mold, old or new, is killed while a reload or an upgrade runs: the verdict is true, whichever it is."""
    kind = dice.choice(("reload", "upgrade"))
    moment = dice.random() * 2.5
    world.write(version=world.written.version + 1, workers=dice.randrange(1, 4))
    whom = dice.random()
    known = {*world.daemon.worker_pids(), *world.daemon.mold_pids()}

    def strike() -> None:
        time.sleep(moment)  # anywhere in the change
        pids = sorted([*world.daemon.worker_pids(), *world.daemon.mold_pids()])
        if pids:
            victim = pids[min(int(whom * len(pids)), len(pids) - 1)]
            world.note(f"    KILL to {victim}, {'old' if victim in known else 'new'}, after {moment:.2f} s")
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            disruption.pids |= {victim}
            world.account.killed[victim] = time.monotonic()

    # Before the victim is known, nothing is excused: pid -1 is nobody.
    with world.account.disrupt("lossy", pids=[-1]) as disruption:
        world.recovering += 1
        thread = threading.Thread(target=strike)
        thread.start()
        try:
            verdict = world.ask(kind)
            thread.join()
            if verdict["ok"]:
                world.accept()
            for victim in disruption.pids:
                gone(world, victim)
            world.settled()
        finally:
            thread.join()
            world.recovering -= 1
    world.verify()
    if not verdict["ok"]:
        world.change(True)


def stop(world: World, *signals: signal.Signals, codes: tuple[int, ...] = (0,)) -> None:
    """Stop the daemon, judge its exit code and what it leaves."""
    world.serving = False
    for number in signals:
        world.daemon.signal(number)
    code = world.daemon.wait(LONG)
    if code not in codes:
        raise Broken(f"the exit code after {[one.name for one in signals]} is {code}, not one of {codes}")
    world.nothing_left()


@action(3)
def stopped_and_started(world: World, dice: random.Random) -> None:
    """TERM, or the command, then a new start: what was accepted is answered, the exit code is 0, nothing is left."""
    with world.short_of_workers(), world.account.disrupt("closing"):
        if dice.random() < 0.3:
            world.serving = False
            world.ask("stop")
        stop(world, *([signal.SIGTERM] if world.serving else []))
        restart(world, dice)


@action(2)
def halted_and_started(world: World, dice: random.Random) -> None:
    """INT, QUIT or two TERMs: requests may be lost, nothing else is left."""
    pids = [one["pid"] for one in world.status()["workers"]]
    with world.short_of_workers(), world.account.disrupt("lossy", pids=pids):
        how = dice.choice(
            ([signal.SIGINT], [signal.SIGQUIT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGTERM, signal.SIGINT])
        )
        stop(world, *how, codes=(0, 1))
        restart(world, dice)


@action(3)
def parent_killed(world: World, dice: random.Random) -> None:
    """KILL to the parent, at peace or in a change: the workers answer what they have and leave; the daemon is started again."""
    during = dice.choice((None, signal.SIGHUP, signal.SIGUSR2))
    with world.short_of_workers(), world.account.disrupt("closing"):
        if during:
            world.daemon.signal(during)
            time.sleep(dice.random() * 2)  # anywhere in the change
        world.serving = False
        world.daemon.signal(signal.SIGKILL)
        world.daemon.wait(LONG)
        world.bury()
        restart(world, dice)


def restart(world: World, dice: random.Random) -> None:
    """Start again, now and then with new content."""
    world.written = world.written if dice.random() < 0.5 else world.with_version()
    world.start()


@action(2)
def stop_during_a_reload(world: World, dice: random.Random) -> None:
    """TERM wins over a reload."""
    with world.short_of_workers(), world.account.disrupt("closing"):
        world.daemon.signal(signal.SIGHUP)
        time.sleep(dice.random() * 2)  # anywhere in the reload
        stop(world, signal.SIGTERM)
        restart(world, dice)
