"""Broken files: a change fails and says so, the old generation serves on; once the file is mended, the next change succeeds."""

from __future__ import annotations

import contextlib
import pathlib
import random
import socket
from collections.abc import Iterator

from tests.chaos.actions import action
from tests.chaos.world import World

MARK = "broken by the chaos driver"
"""Stands in each error that the broken files raise themselves."""

SOURCES: dict[str, str] = {
    "syntax error": f"def broken(:  # {MARK}\n",
    "raises": f"raise RuntimeError('{MARK}')\n",
    "raises no Exception": f"raise KeyboardInterrupt('{MARK}')\n",
    "exits": f"raise SystemExit('{MARK}')\n",
    "ends the process": "import os\nos._exit(7)\n",
    "kills itself": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
    "no factory": "factories = None\n",
    "factory raises": f"def factory(global_conf, records):\n    raise ValueError('{MARK}')\n",
    "not UTF-8": "# \udce9\n",
}

OPTIONS: dict[str, dict[str, object]] = {
    "unknown option": {"no_such_option": 1},
    "bad value": {"workers": "many"},
    "out of range": {"pool_size": -1},
    "inline": {"workers": 0},
    "log in no directory": {"log_file": "/nonexistent/chaos/log"},
    "access log in no directory": {"access_log": "/nonexistent/chaos/log"},
    "access log is a directory": {"access_log": "/tmp"},
    "pid file in no directory": {"pid_file": "/nonexistent/chaos/pid"},
    "control socket in no directory": {"control_socket": "/nonexistent/chaos/control"},
    "unknown user": {"user": "nobody-of-the-chaos-driver"},
    "number of a group out of range": {"group": "99999999999999999999"},
    "unknown field": {"access_log_format": "%(no_such_field)s"},
    "unknown listener": {"listeners": "nowhere"},
    "no such interpolation": {"bind": "$no_such_option"},
    "no such host": {"bind": "host.invalid:80"},
}

PASTES: dict[str, str] = {
    "no section": "[app:other]\nuse = egg:apid#healthcheck\n",
    "no header": "paste.app_factory = chaos_application:factory\n",
    "missing module": "[app:main]\npaste.app_factory = chaos_no_such_module:factory\n",
    "empty": "",
    "missing option": "[app:main]\npaste.app_factory = chaos_application:factory\n",
    "interpolation": "[app:main]\npaste.app_factory = chaos_application:factory\nrecords = %(nothing)s\n",
    "circle": "[app:main]\nuse = main\n",
}


@contextlib.contextmanager
def replaced(world: World, path: pathlib.Path, text: str | None) -> Iterator[None]:
    """Have another text in a file for a while; None: no file."""
    before = path.read_text(encoding="utf-8")
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    try:
        yield
    finally:
        world.files.replace(path, before)


def fail_and_mend(
    world: World, dice: random.Random, what: str, broken: contextlib.AbstractContextManager[None]
) -> None:
    """A change fails while `broken` is entered; afterwards one succeeds, now and then."""
    world.note(f"    {what}")
    with broken:
        for _ in range(dice.choice((1, 1, 2))):
            world.change(False, dice.choice(("reload", "reload", "HUP", "upgrade", "USR2")))
    if dice.random() < 0.6:
        world.write(version=world.written.version + 1)
        world.change(True, dice.choice(("reload", "HUP")))


@action(6)
def broken_module(world: World, dice: random.Random) -> None:
    """The application's module cannot be imported, or has no application."""
    what = dice.choice([*SOURCES, "missing"])
    fail_and_mend(world, dice, f"module: {what}", replaced(world, world.files.module, SOURCES.get(what)))


@action(6)
def broken_options(world: World, dice: random.Random) -> None:
    """apid.conf cannot be used."""
    what = dice.choice([*OPTIONS, "missing", "garbage", "unknown section"])
    text = {
        "missing": None,
        "garbage": "[DEFAULT\nworkers = 2\n",
        "unknown section": world.files.text(world.written) + "\n[no_such_section]\na = b\n",
    }.get(what, "")
    if what in OPTIONS:
        text = world.files.text(world.written, **OPTIONS[what])
    fail_and_mend(world, dice, f"options: {what}", replaced(world, world.files.config, text))


@action(5)
def broken_paste(world: World, dice: random.Random) -> None:
    """api-paste.ini cannot be used."""
    what = dice.choice([*PASTES, "missing"])
    fail_and_mend(world, dice, f"paste: {what}", replaced(world, world.files.paste, PASTES.get(what)))


@action(3)
def broken_certificate(world: World, dice: random.Random) -> None:
    """The certificate cannot be used."""
    what, text = dice.choice((("garbage", "no certificate"), ("empty", ""), ("missing", None)))
    if "secure" not in world.applied.extra:
        world.write(extra=world.written.extra | {"secure"})
        world.change()
    fail_and_mend(world, dice, f"certificate: {what}", replaced(world, world.files.certificate, text))


@action(3)
def address_in_use(world: World, dice: random.Random) -> None:
    """Somebody else has the address of a new listener."""
    if "second" in world.applied.extra:
        world.write(extra=world.written.extra - {"second"})
        world.change()
    before = world.written
    with socket.create_server(world.files.address("second"), reuse_port=False) as other:
        other.listen()
        world.note("    a new listener on an address in use")
        text = world.files.text(world.written)
        text = text.replace("listeners = ", "listeners = second, ", 1)
        text += f"[listener:second]\nbind = 127.0.0.1:{world.files.ports['second']}\n"
        with replaced(world, world.files.config, text):
            verdict = world.ask("reload")
            if verdict["ok"]:
                raise AssertionError("a reload to an address in use succeeded")
    assert world.written == before
    world.verify()


@action(2)
def hanging_import(world: World, dice: random.Random) -> None:
    """The application hangs while it is imported; startup_timeout ends it, and the daemon answers meanwhile."""
    hanging = "import time\ntime.sleep(300)\n"
    config = world.files.text(world.written, startup_timeout=4)
    with replaced(world, world.files.config, config), replaced(world, world.files.module, hanging):
        world.change(False, dice.choice(("reload", "HUP")))
    world.change(True)
