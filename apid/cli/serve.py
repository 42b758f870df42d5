"""Puts the daemon together: settings, sockets, plan, effects, loop; here parent and worker meet."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import setproctitle

from apid import channel, conf
from apid.conf.settings import Settings
from apid.errors import ApidError, NoWorkerError, is_shortage
from apid.loggers import logger
from apid.parent import foundations, guard, molds, ownlog, program, upgrade
from apid.parent.effects import Effects
from apid.parent.events import Event, Prepare
from apid.parent.listeners import Listeners, Places, keys_of, serving
from apid.parent.loop import Loop
from apid.parent.plan import Plan
from apid.parent.reservation import Holdings, Reservation
from apid.posix import processes, signals, systemd
from apid.scoreboard import Scoreboard
from apid.version import VERSION
from apid.worker import boot

LOG = logger("apid")

LONGEST_DRAIN = 60.0
"""Seconds that the workers get when what the program before left cannot be taken over: their own limit is not known then."""


def serve(argv: Sequence[str]) -> int:
    """Serve until stopped; returns the exit code.

    Raises:
        ApidError: the start failed; its class carries the exit code.
    """
    directory = conf.working_directory()
    load = functools.partial(conf.load, argv, directory=directory)
    with _draining_on_failure():
        inheritance = upgrade.restore(os.environ)
    if inheritance is not None:
        return _go_on(inheritance, load, directory)
    settings = load()
    ownlog.set_up(settings)
    _introduce(settings)
    notifier = systemd.Notifier(os.environ)
    listeners = Listeners(systemd.inherited_sockets(os.environ), kept=bool(notifier.address))
    inline = settings.daemon.workers == 0
    if inline and settings.daemon.control_socket:
        LOG.warning("no control socket at %s: workers = 0 serves without a parent", settings.daemon.control_socket)
        settings = dataclasses.replace(settings, daemon=dataclasses.replace(settings.daemon, control_socket=None))
    with _refused_resources(), contextlib.ExitStack() as undo:
        undo.callback(listeners.close)
        holdings = Holdings()
        undo.callback(holdings.end)
        reserved = Reservation.take(settings, listeners, holdings)
        reserved.commit_control(settings.daemon, holdings)
        reserved.commit_pid_file(settings.daemon, holdings)
        listeners.keep(keys_of(reserved.places))
        for name in listeners.leftovers():
            text = "the descriptor %s was handed over, and no address wants it (bind = fd:%s): closed"
            LOG.warning(text, name, name)
            notifier.send("FDSTOREREMOVE=1", f"FDNAME={name}")
        if inline:
            foundations.warn(settings, set())
            _inline(settings, listeners, reserved.places, holdings)
        board = Scoreboard.create()
        _guarded(board, settings)
        processes.adopt_orphans(True)
        effects = Effects(
            settings,
            listeners,
            load=load,
            run_worker=boot.run,
            notifier=notifier,
            argv=program.command_line(),
            directory=directory,
            places=reserved.places,
            holdings=holdings,
            board=board,
        )
        loop = Loop(Plan.new(settings.daemon, time.monotonic()), effects)
        undo.pop_all()
    code = loop.run()
    if effects.reason:
        print(f"apid: {effects.reason}", file=sys.stderr)  # noqa: T201 - the last line of a failed start
    return code


@contextlib.contextmanager
def _refused_resources() -> Iterator[None]:
    try:
        yield
    except (OSError, MemoryError) as error:
        if not is_shortage(error):
            raise
        reason = getattr(error, "strerror", None) or "out of memory"
        raise NoWorkerError(f"the daemon cannot start: {reason}") from error


def _guarded(board: Scoreboard, settings: Settings) -> None:
    try:
        guard.start(board, settings)
    except (OSError, AttributeError) as error:  # a Python that was built without pidfd_open
        reason = getattr(error, "strerror", None) or error
        LOG.warning("no guard: %s; if the parent is killed, a blocked worker keeps its addresses", reason)


def _introduce(settings: Settings) -> None:
    where = ", ".join(settings.files) or "no configuration file: defaults and the packaged pipeline"
    LOG.info("apid starts: %s", where)
    for listener in settings.listeners:
        addresses = ", ".join(map(str, listener.addresses))
        paste = listener.paste
        LOG.info("listener %s on %s serves %s of %s", listener.name, addresses, paste.app_name, paste.config_file)


def _go_on(inheritance: upgrade.Inheritance, load: Callable[[], Settings], directory: str) -> int:
    """Take over from the image that this process was: same pid, sockets and workers; then raise a generation of new code.

    Workers live, so nothing that goes wrong here may end the daemon as long as it can supervise them; if it cannot, they drain.
    """
    with _draining_on_failure():
        loop, first = _taken_over(inheritance, load, directory)
    return loop.run(first)


@contextlib.contextmanager
def _draining_on_failure() -> Iterator[None]:
    try:
        yield
    except BaseException:
        signals.unblock_all()
        with contextlib.suppress(
            OSError
        ):  # not every kernel lists children (proc(5)); the first error is the one to say
            processes.let_children_drain(LONGEST_DRAIN)
        raise


def _taken_over(
    inheritance: upgrade.Inheritance, load: Callable[[], Settings], directory: str
) -> tuple[Loop, list[Event]]:
    trouble: list[Exception] = []
    settings: Settings | None = None
    try:
        settings = load()
    except Exception:  # noqa: BLE001 - the Prepare below tries again, and says why
        ownlog.fall_back()
    try:
        if settings is not None:
            ownlog.set_up(settings)
    except Exception as fault:  # noqa: BLE001 - the log is lost, the daemon is not
        ownlog.fall_back()
        trouble.append(fault)
    plan = inheritance.plan()
    notifier = systemd.Notifier(os.environ)
    listeners = inheritance.listeners(kept=bool(notifier.address))
    places = inheritance.places().get(plan.state.generation, {})
    LOG.info("upgraded: version %s goes on with %d workers", VERSION, len(plan.state.children))
    board, actions = inheritance.board(), []
    if board is None:
        board, actions = Scoreboard.create(), molds.dismiss_all(plan.state, time.monotonic())
        if settings is not None:
            processes.adopt_orphans(False)
            _guarded(board, settings)
    processes.adopt_orphans(True)
    effects = Effects(
        serving(settings, places) if settings is not None else None,
        listeners,
        load=load,
        run_worker=boot.run,
        notifier=notifier,
        argv=program.command_line(),
        directory=directory,
        places=places,
        holdings=Holdings(),
        board=board,
        generation=plan.state.generation,
    )
    for error in trouble:
        effects.faults.note("the log", error)
    inheritance.give(effects)
    loop = Loop(plan, effects)
    if (change := plan.state.change) is not None:
        actions.append(Prepare(change.generation))
    return loop, [event for action in actions for event in effects.perform(action)]


def _inline(settings: Settings, listeners: Listeners, places: Places, holdings: Holdings) -> NoReturn:
    """Serve in this process, without a fork and so without reload: for debuggers and for the curious."""
    board = Scoreboard.create()
    row = board.row(0)
    row.clear()
    row.take(os.getpid(), 0, 1)
    sockets = {name: listeners.of(keys) for name, keys in places.items()}
    ticket = channel.Ticket(0, 1, settings, sockets, None, board, row)
    setproctitle.setproctitle("apid: inline")

    def at_end() -> None:
        listeners.close()
        holdings.end()

    boot.run(ticket, at_end=at_end)


def check_program() -> int | None:
    """In a preflight: say whether this program can take over; returns the pid of the daemon that asks, or None.

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
