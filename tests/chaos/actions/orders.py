"""Signals and control commands, in order and out of it."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import time

from tests.chaos.actions import action
from tests.chaos.world import LONG, Broken, World
from tests.support import processes
from tests.support.client import Connection
from tests.support.processes import wait_until


@action(4)
def scale(world: World, dice: random.Random) -> None:
    """`scale` to a number of workers, which is right when the verdict comes."""
    number = dice.randrange(1, 5)
    with world.short_of_workers():
        verdict = world.ask("scale", number=number)
        world.wanted = number
        status = world.status()
        if not verdict["ok"] or status["wanted"] != number or status["ready"] != number:
            raise Broken(f"scale to {number}: {verdict['text']}; {status['line']}")
    world.verify()


@action(4)
def one_more_one_fewer(world: World, dice: random.Random) -> None:
    """TTIN and TTOU."""
    with world.short_of_workers():
        for _ in range(dice.randrange(1, 4)):
            more = dice.random() < 0.5
            if more and world.wanted >= 5:
                continue
            before = world.wanted
            world.wanted = before + 1 if more else max(1, before - 1)
            world.daemon.signal(signal.SIGTTIN if more else signal.SIGTTOU)
            wait_until(lambda: world.status()["wanted"] == world.wanted, f"{world.wanted} workers wanted", LONG, 0.05)
    world.verify()


@action(4)
def reopen(world: World, dice: random.Random) -> None:
    """The logs are moved away and opened again, as logrotate does."""
    moved = {}
    for name in (world.applied.access_log, world.applied.log_file):
        path = world.files.directory / name
        if name and path.exists() and not path.is_symlink() and path.parent == world.files.directory:
            moved[path] = path.with_name(f"{path.name}.{time.monotonic_ns()}")
            path.rename(moved[path])
    world.logs += [path for path in moved.values() if "daemon" in path.name]
    if dice.random() < 0.7:
        verdict = world.ask("reopen")
        if not verdict["ok"]:
            raise Broken(f"reopen failed: {verdict['text']}")
        missing = [path.name for path in moved if not path.exists()]
        if missing:
            raise Broken(f"reopen was ok, and there is no {missing}")
    else:
        world.daemon.signal(signal.SIGUSR1)
        wait_until(lambda: all(path.exists() for path in moved), f"{sorted(moved)} are there again", LONG, 0.05)
    world.verify()


@action(2)
def dump(world: World, dice: random.Random) -> None:
    """The stacks of all workers."""
    verdict = world.ask("dump")
    if not verdict["ok"]:
        raise Broken(f"dump failed: {verdict['text']}")


@action(2)
def storm(world: World, dice: random.Random) -> None:
    """Many signals at once; the last word about the number of workers is that of the last reload."""
    with world.short_of_workers(), world.account.disrupt("closing"):
        world.write(version=world.written.version + 1)
        for _ in range(dice.randrange(10, 40)):
            names = ("HUP", "HUP", "HUP", "USR1", "USR2", "TTIN", "TTOU")
            world.daemon.signal(getattr(signal, f"SIG{dice.choice(names)}"))
            time.sleep(dice.random() * 0.1)  # the pace of the storm
        at_rest(world)
        world.wanted = world.status()["wanted"]
    world.change(True, "reload")


def at_rest(world: World) -> None:
    """Wait until no change runs or waits: what a storm leaves."""

    def over() -> bool:
        world.alive()
        status = world.status()
        return status["change"] is None and status["phase"] == "running" and status["ready"] == status["wanted"]

    wait_until(over, "the changes of the storm end", LONG, 0.1)


@action(3)
def quiesce(world: World, dice: random.Random) -> None:
    """WINCH: nobody serves, connections wait in the queue; HUP brings workers back, and those who waited are answered."""
    with world.short_of_workers():
        world.daemon.signal(signal.SIGWINCH)
        wait_until(lambda: world.status()["phase"] == "quiesced", "WINCH is heard", LONG, 0.05)
        wait_until(lambda: not world.status()["workers"], "all workers have left", LONG, 0.05)
        idents = [f"queued.{time.monotonic_ns()}.{at}" for at in range(dice.randrange(1, 6))]
        world.account.send(idents)
        with contextlib.ExitStack() as stack:
            waiting = [
                stack.enter_context(Connection(("127.0.0.1", world.files.ports["main"]), timeout=LONG)) for _ in idents
            ]
            for ident, connection in zip(idents, waiting, strict=True):
                connection.send(f"GET /r/{ident} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            world.change(True, dice.choice(("HUP", "reload")))
            for ident, connection in zip(idents, waiting, strict=True):
                answer = connection.answer()
                if answer.status != 200 or answer.header("X-Id") != ident:
                    raise Broken(f"{ident} waited in the queue and got {answer.status} {answer.body[:100]!r}")
                world.account.answered(ident, int(answer.header("X-Version") or 0), 0.0)


@action(4)
def control_garbage(world: World, dice: random.Random) -> None:
    """Connections to the control socket that say nothing, nonsense or too much; the others are answered."""
    path = str(world.daemon.control)
    junk = (
        b"", b"\n\n\n", b"{", b"[]\n", b"null\n", b"7\n", b'{"v": 1}\n', b'{"v": 2, "command": "stop"}\n', b"\xff\xfe\n",
        b'{"v": 1, "command": 7}\n', b'{"v": 1, "command": "no such"}\n', b'{"v": 1, "command": "scale", "number": "3"}\n',
        b'{"v": 1, "command": "scale", "number": -1}\n', b'{"v": 1, "command": "scale", "number": 1e999}\n', b"x" * 200_000,
        b'{"v": 1, "command": "status"}\n' * 200, b'{"v": 1, "command": "status", "number": 99999999999999999999}\n',
        b"[" * 60_000 + b"\n",
    )  # fmt: skip
    before = processes.cpu_seconds(world.daemon.pid)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        for _ in range(dice.choice((3, 20, 80))):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(1)
            with contextlib.suppress(OSError):  # closed, or a full queue: what the daemon may do to such clients
                sock.connect(path)
                sock.sendall(dice.choice(junk))
        world.status()
        time.sleep(dice.choice((0.0, 2.0)))  # idle connections stay for a while
        world.status()
    used, passed = processes.cpu_seconds(world.daemon.pid) - before, time.monotonic() - began
    if passed > 2 and used > 0.8 * passed:
        raise Broken(f"the parent used {used:.1f} s of the processor in {passed:.1f} s with idle control connections")
    with world.short_of_workers():
        world.wanted = world.status()["wanted"]
    world.verify()


@action(2)
def refused_commands(world: World, dice: random.Random) -> None:
    """Commands that do not exist, and numbers that make no sense, are refused with a reason."""
    for command, more in (("no such", {}), ("scale", {"number": -1}), ("scale", {"number": 0})):
        verdict = world.ask(command, **more)
        if verdict["ok"]:
            raise Broken(f"{command} {more} was not refused: {json.dumps(verdict)[:200]}")
    world.verify()
