"""One session: actions drawn by the seed, clients meanwhile, a rest now and then, and a stop that leaves nothing."""

from __future__ import annotations

import dataclasses
import pathlib
import random
import threading
import time
from collections.abc import Sequence

from tests.chaos.actions import TABLE, broken, ends, molds, options, orders, shortage
from tests.chaos.clients import Crowd
from tests.chaos.rest import Rest
from tests.chaos.world import Broken, World

MODULES = (broken, ends, molds, options, orders, shortage)
"""Importing them fills the table."""

BETWEEN_RESTS = 12
"""Actions."""

MANY = 5
"""Reloads before the last rest: what leaks at each of them is seen there, for an upgrade makes a new image of the parent."""


class Watch(threading.Thread):
    """Looks at the status all the time: never fewer ready workers than wanted, unless the driver took some."""

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self.world = world
        self.over = threading.Event()
        self.looks = 0

    def run(self) -> None:
        """Look until told to stop."""
        while not self.over.wait(0.5):
            world = self.world
            if world.recovering or not world.serving:
                continue
            try:
                status = world.status()
            except Exception:  # noqa: BLE001 - an action has moved the socket, or ended the daemon
                continue
            if world.recovering or not world.serving:
                continue
            self.looks += 1
            if status["ready"] < status["wanted"]:
                world.account.fault(f"{status['ready']} of {status['wanted']} workers ready: {status['line']}")


class Session:
    """A session of so many seconds, or so many actions.

    Args:
        directory: an empty one.
        seed: makes the sequence of actions and the clients' habits.
        only: names of the only actions to draw; all when empty.
    """

    def __init__(self, directory: pathlib.Path, seed: int, only: Sequence[str] = ()) -> None:
        self.directory, self.seed = directory, seed
        self.began = time.monotonic()
        self.lines: list[str] = []
        self.world = World(directory, self.note)
        engine = random.Random(f"{seed} engine").choice(("eventlet", "threads"))
        preload = random.Random(f"{seed} preload").choice(("auto", "on", "off"))
        self.world.written = self.world.applied = dataclasses.replace(
            self.world.written, engine=engine, preload=preload
        )
        self._draw = random.Random(f"{seed} actions")
        self._names = [name for name in sorted(TABLE) if not only or name in only]
        self._weights = [TABLE[name].weight for name in self._names]
        self.done = 0
        self.figures: dict[str, int] = {}

    def note(self, text: str) -> None:
        """Keep a line of the journal."""
        self.lines.append(f"{time.monotonic() - self.began:7.2f} {text}")
        print(self.lines[-1], flush=True)  # noqa: T201 - pytest shows it when the session fails

    def run(self, seconds: float, actions: int = 1_000_000) -> None:
        """Run it.

        Raises:
            Broken: a promise was broken; the text has the seed and the journal's end.
        """
        self.note(f"seed {self.seed}, {seconds:g} s, in {self.directory}")
        world = self.world
        shortage.mount(world.files.small)
        crowd = Crowd(self.seed, world.account, world.address)
        rest, watch = Rest(world), Watch(world)
        try:
            world.start()
            watch.start()
            crowd.go()
            self.rest(crowd, rest)
            end = time.monotonic() + seconds
            while time.monotonic() < end and self.done < actions:
                self.act()
                if self.done % BETWEEN_RESTS == 0:
                    self.rest(crowd, rest)
            for _ in range(MANY):
                world.change(True)
            self.rest(crowd, rest)
            crowd.end()
            watch.over.set()
            ends.stop(world, ends.signal.SIGTERM)
            self.note("stopped")
        except Exception as error:
            text = "\n".join(self.lines[-40:])
            raise Broken(f"seed {self.seed}, action {self.done}: {error}\n{text}\n{self._logged()}") from error
        finally:
            watch.over.set()
            world.serving = False
            crowd.end()
            if world.daemon is not None:
                world.daemon.kill()

    def draw(self) -> tuple[str, random.Random]:
        """Draw the next action and make its dice."""
        [name] = self._draw.choices(self._names, self._weights)
        self.done += 1
        return name, random.Random(f"{self.seed} {self.done} {name}")

    def act(self) -> None:
        """Draw one action and do it."""
        name, dice = self.draw()
        self.note(f"{self.done} {name}")
        TABLE[name].body(self.world, dice)
        self.world.alive()
        if self.world.account.faults:
            raise Broken("\n".join(self.world.account.faults[:10]))

    def rest(self, crowd: Crowd, rest: Rest) -> None:
        """Pause the clients and judge."""
        rest.begin()
        late = crowd.pause()
        if late:
            raise Broken(f"clients that do not come to an end: {late}")
        self.figures = rest.judge()
        self.note(f"rest: {self.figures}")
        crowd.go()

    def _logged(self) -> str:
        """The end of the last log."""
        path = self.world.logs[-1] if self.world.logs else None
        text = path.read_text(encoding="utf-8", errors="replace") if path and path.exists() else ""
        lines = [line for line in text.splitlines() if " apid.server." not in line]  # of single requests
        return "\n".join(lines[-50:])
