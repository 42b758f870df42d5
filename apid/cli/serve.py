"""Puts the daemon together: settings, sockets, plan, effects, loop; here parent and worker meet."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import setproctitle

from apid import channel, conf
from apid.conf.settings import Settings
from apid.errors import ApidError
from apid.loggers import logger
from apid.parent import ownlog, program, upgrade
from apid.parent.effects import Effects
from apid.parent.events import Prepare
from apid.parent.listeners import Listeners, Places
from apid.parent.loop import Loop
from apid.parent.plan import Plan
from apid.parent.reservation import Holdings, Reservation
from apid.posix import processes, systemd
from apid.scoreboard import Scoreboard

LOG = logger("apid")


def serve(argv: Sequence[str]) -> int:
    """Serve until stopped; returns the exit code.

    Raises:
        ApidError: the start failed; its class carries the exit code.
    """
    inheritance = upgrade.restore(os.environ)
    if inheritance is not None:
        return _go_on(argv, inheritance)
    settings = conf.load(argv)
    ownlog.set_up(settings)
    _introduce(settings)
    notifier = systemd.Notifier(os.environ)
    listeners = Listeners(systemd.inherited_sockets(os.environ), kept=bool(notifier.address))
    inline = settings.daemon.workers == 0
    if inline and settings.daemon.control_socket:
        LOG.warning("no control socket at %s: workers = 0 serves without a parent", settings.daemon.control_socket)
        settings = dataclasses.replace(settings, daemon=dataclasses.replace(settings.daemon, control_socket=None))
    reserved, holdings = Reservation.take(settings, listeners, Holdings()), Holdings()
    listeners.keep(key for keys in reserved.places.values() for key in keys)
    for name in listeners.leftovers():
        LOG.warning("the descriptor %s was handed over, and no address wants it (bind = fd:%s): closed", name, name)
        notifier.send("FDSTOREREMOVE=1", f"FDNAME={name}")
    reserved.commit(settings.daemon, holdings)
    if inline:
        return _inline(settings, listeners, reserved.places, holdings)
    effects = Effects(
        settings,
        listeners,
        load=lambda: conf.load(argv),
        run_worker=_run_worker,
        notifier=notifier,
        argv=program.command_line(),
        places=reserved.places,
        holdings=holdings,
    )
    code = Loop(Plan.new(settings.daemon, time.monotonic()), effects).run()
    if effects.reason:
        print(f"apid: {effects.reason}", file=sys.stderr)  # noqa: T201 - the last line of a failed start
    return code


def _introduce(settings: Settings) -> None:
    where = ", ".join(settings.files) or "no configuration file: defaults and the packaged pipeline"
    LOG.info("apid starts: %s", where)
    for listener in settings.listeners:
        addresses = ", ".join(map(str, listener.addresses))
        paste = listener.paste
        LOG.info("listener %s on %s serves %s of %s", listener.name, addresses, paste.app_name, paste.config_file)


def _go_on(argv: Sequence[str], inheritance: upgrade.Inheritance) -> int:
    """Take over from the image that this process was: same pid, sockets and workers; then raise a generation of new code."""
    plan = inheritance.plan()
    notifier = systemd.Notifier(os.environ)
    listeners = inheritance.listeners(kept=bool(notifier.address))
    places = inheritance.places().get(plan.state.generation, {})
    try:
        settings: Settings | None = conf.load(argv)
    except ApidError:
        settings = None  # said by the Prepare below, which tries again
    board = inheritance.board()
    trouble = _log_again(settings)
    LOG.info(
        "upgraded: version %s goes on with %d workers", importlib.metadata.version("apid"), len(plan.state.children)
    )
    effects = Effects(
        listeners.serving(settings, places) if settings is not None else None,
        listeners,
        load=lambda: conf.load(argv),
        run_worker=_run_worker,
        notifier=notifier,
        argv=program.command_line(),
        places=places,
        holdings=inheritance.holdings(),
        board=board or Scoreboard.create(),
        generation=plan.state.generation,
    )
    inheritance.give(effects)
    if trouble:
        LOG.error("%s", trouble)
    change = plan.state.change
    first = effects.perform(Prepare(change.generation)) if change is not None else []
    return Loop(plan, effects).run(first)


def _log_again(settings: Settings | None) -> str:
    """Set the log up in the new image; workers live, so nothing that goes wrong here may end it: returns what did."""
    try:
        if settings is not None:
            ownlog.set_up(settings)
            return ""
    except ApidError as error:
        logging.basicConfig()
        return str(error)
    logging.basicConfig()
    return ""


def _run_worker(ticket: channel.Ticket) -> NoReturn:
    from apid.worker import boot

    boot.run(ticket)


def _inline(settings: Settings, listeners: Listeners, places: Places, holdings: Holdings) -> NoReturn:
    """Serve in this process, without a fork and so without reload: for debuggers and for the curious."""
    board = Scoreboard.create()
    row = board.row(0)
    row.clear()
    sockets = {name: listeners.of(keys) for name, keys in places.items()}
    ticket = channel.Ticket(0, 1, settings, sockets, None, board, row)
    setproctitle.setproctitle("apid: inline")
    from apid.worker import boot

    def at_end() -> None:
        listeners.close()
        holdings.end()

    boot.run(ticket, at_end=at_end)


def check_program() -> int | None:
    """In a preflight: say whether this program can take over; returns the pid of the daemon that asks, None if nobody does.

    Raises:
        ApidError: it cannot.
    """
    asker = os.environ.get(program.ASKED_BY)
    if asker is not None:
        processes.die_with_parent(True)
        if asker != str(os.getppid()):
            raise ApidError("the daemon that wanted to know is gone")
    reason = upgrade.asked_version(os.environ)
    if reason is not None:
        raise ApidError(reason)
    return int(asker) if asker is not None else None
