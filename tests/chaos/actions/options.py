"""Changed options: each is written, taken by one of the four ways, and seen from outside."""

from __future__ import annotations

import random

from tests.chaos.actions import action
from tests.chaos.wish import EXTRA
from tests.chaos.world import World

WAYS = ("reload", "reload", "HUP", "HUP", "upgrade", "USR2")


@action(10)
def new_content(world: World, dice: random.Random) -> None:
    """The application changes."""
    world.write(version=world.written.version + 1)
    world.change(how=dice.choice(WAYS))


@action(4)
def same_content(world: World, dice: random.Random) -> None:
    """Nothing changes."""
    world.change(how=dice.choice(WAYS))


@action(6)
def number_of_workers(world: World, dice: random.Random) -> None:
    """The option `workers` changes."""
    world.write(workers=dice.randrange(1, 5))
    world.change(how=dice.choice(WAYS))


@action(5)
def other_engine(world: World, dice: random.Random) -> None:
    """Requests run in native threads instead of green ones, or the other way round."""
    world.write(engine="eventlet" if world.written.engine == "threads" else "threads")
    world.change(how=dice.choice(WAYS))


@action(8)
def listeners(world: World, dice: random.Random) -> None:
    """Listeners come and go; content changes with them, now and then."""
    extra = frozenset(name for name in EXTRA if dice.random() < 0.6)
    world.write(extra=extra, version=world.written.version + dice.randrange(2))
    world.change(how=dice.choice(WAYS))


@action(4)
def limits(world: World, dice: random.Random) -> None:
    """Limits and deadlines that no client of a session meets."""
    more = {
        "pool_size": dice.choice((50, 200, 1000)),
        "backlog": dice.choice((256, 1024, 4096)),
        "header_timeout": dice.choice((30, 60)),
        "keepalive_timeout": dice.choice((20, 75)),
        "tcp_keepidle": dice.choice((0, 60, 600)),
        "umask": dice.choice(("0022", "0007")),
        "worker_timeout": dice.choice((30, 60)),
        "debug": dice.choice(("true", "false")),
    }
    world.write(more=tuple(sorted(more.items())))
    world.change(how=dice.choice(WAYS))


@action(4)
def paths(world: World, dice: random.Random) -> None:
    """Logs, pid file and control socket move."""
    number = dice.randrange(3)
    changed: dict[str, object] = {
        "access_log": f"access-{number}.log",
        "log_file": dice.choice(("", "daemon-a.log", "daemon-b.log")),
        "pid_file": dice.choice(("", "pid-0", "pid-1")),
        "control_socket": f"control-{dice.randrange(2)}",
    }
    names = dice.sample(sorted(changed), dice.randrange(1, 4))
    world.write(**{name: changed[name] for name in names})
    world.change(how=dice.choice(WAYS))


@action(3)
def new_certificate(world: World, dice: random.Random) -> None:
    """The certificate is renewed."""
    world.files.make_certificate()
    world.change(how=dice.choice(WAYS))
