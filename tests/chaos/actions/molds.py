"""Molds: killed at any moment, with the disk as it was or broken; and the option that has them."""

from __future__ import annotations

import contextlib
import os
import random
import signal

from tests.chaos.actions import action
from tests.chaos.actions.broken import MARK, replaced
from tests.chaos.actions.ends import gone, worker
from tests.chaos.actions.options import WAYS
from tests.chaos.world import LONG, World
from tests.support.processes import wait_until


def kill_molds(world: World) -> None:
    """KILL to each mold; the parent has noticed it when this returns."""
    pids = world.daemon.mold_pids()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    there = {mold["pid"] for mold in world.status()["molds"]} & set(pids)
    wait_until(lambda: not there & {mold["pid"] for mold in world.status()["molds"]}, "no mold is left", LONG, 0.05)


def kill_workers(world: World, dice: random.Random, count: int) -> None:
    """KILL to workers, one after the other; each is replaced."""
    for _ in range(count):
        pid = worker(world, dice)
        with world.short_of_workers(), world.account.disrupt("lossy", pids=[pid]):
            os.kill(pid, signal.SIGKILL)
            gone(world, pid)


@action(5)
def mold_killed(world: World, dice: random.Random) -> None:
    """KILL to the mold: no request is lost, no worker is missed; the next worker that is needed has a new mold."""
    kill_molds(world)
    world.verify()
    if dice.random() < 0.7:
        kill_workers(world, dice, 1)
    if dice.random() < 0.5:
        world.change(how=dice.choice(WAYS))
    world.verify()


@action(4)
def workers_killed_over_broken_files(world: World, dice: random.Random) -> None:
    """The application cannot be loaded any more; a generation that has a mold keeps its full number of workers."""
    if world.applied.preload == "off":
        world.write(preload=dice.choice(("auto", "on")))
        world.change()
    kill_workers(world, dice, 1)  # it has a mold now
    with replaced(world, world.files.module, f"raise RuntimeError('{MARK}')\n"):
        kill_workers(world, dice, dice.randrange(1, 4))
    world.verify()


@action(4)
def other_preload(world: World, dice: random.Random) -> None:
    """The application is loaded once for all workers, or by each of them."""
    world.write(preload=dice.choice(("auto", "on", "off")))
    world.change(how=dice.choice(WAYS))
