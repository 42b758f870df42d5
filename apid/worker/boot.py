"""A worker's birth: from the fork to serving, in the one order that works.

Theory of operation. The engine is made first, after the fork; then privileges are dropped, then logging is set up again (its
locks must be the engine's, its files the user's), and only then the application and everything it imports. The access log,
certificates and keys are opened after the privileges are dropped, too. Ready is said when every pipeline is loaded and every
listener is served; a trial does all that but serve. With preload the trial stays, as the mold from which workers are forked; in
these everything that belongs to one process is made once more.

The parent imports this module before it forks: an engine must only be imported inside functions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import functools
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import setproctitle

from apid import channel, log
from apid.conf import identity, text
from apid.errors import ApidError, ConfigError, ExitCode, PipelineError, is_shortage
from apid.loggers import logger
from apid.posix import privileges, processes, signals, sockets
from apid.worker import ending

if TYPE_CHECKING:
    from apid.server.engines import base
    from apid.worker.places import Places

LOG = logger("apid.worker")


def run(ticket: channel.Ticket, at_end: Callable[[], None] | None = None) -> NoReturn:
    """Be a worker until the end of this process; called with all signals blocked, right after the fork.

    `at_end` is for who serves inline: os._exit runs no `finally` of the caller.
    """
    born = _Born(ticket, os.getpid())
    raised: BaseException | None = None
    try:
        code = _live(ticket, born)
    except BaseException as error:  # noqa: BLE001 - an application may raise anything while it loads, SystemExit too
        raised = error
    ticket = born.ticket
    if os.getpid() != born.pid:  # a child that the application forked while it loaded
        from apid.server import forked

        forked.leave(raised.__cause__ if isinstance(raised, PipelineError) else raised)
    if isinstance(raised, ApidError):
        _last_words(ticket, channel.BootFailed("config", str(raised), getattr(raised, "detail", "")))
        code = raised.exit_code
    elif raised is not None:
        reason = f"the worker failed: {type(raised).__name__}: {raised}"
        _last_words(ticket, channel.BootFailed("crash", reason, "".join(traceback.format_exception(raised))))
        code = ExitCode.NO_WORKER if is_shortage(raised) else ExitCode.BUG
    if at_end is not None:
        at_end()
    if born.engine is not None:
        try:
            served = born.patience > 0
            ending.run(born.engine, born.patience or ending.ABORTED, code, first=born.before_exit, threads=served)
        except BaseException:
            LOG.exception("the exit functions failed")
    processes.flush()
    os._exit(code)


@dataclasses.dataclass
class _Born:
    """How far this process has got.

    Attributes:
        ticket, pid: its own; in a worker that a mold has forked, others than before.
        engine: the worker's, from the moment on when code of the application may have run.
        patience: seconds for the exit functions after a drain; 0: it never served.
        before_exit: called before them.
    """

    ticket: channel.Ticket
    pid: int
    engine: base.Engine | None = None
    patience: float = 0.0
    before_exit: Callable[[], object] | None = None


def _live(ticket: channel.Ticket, born: _Born) -> int:
    sys.argv = ["apid"]  # applications that parse it must not see the daemon's options
    faulthandler.enable()
    setproctitle.setproctitle(f"apid: {_kind(ticket)} (generation {ticket.generation})")
    began = time.time()
    engine = prepare(ticket)
    # Imported before the application, which may change how modules are found.
    from apid.worker import mold
    from apid.worker.forks import Forks
    from apid.worker.hooks import OF_A_MOLD, Hooks
    from apid.worker.life import Life
    from apid.worker.places import Places
    from apid.worker.shield import Shield

    places = Places()
    if ticket.trial and ticket.settings.daemon.preload != "off":
        places.watch()
    shield = Shield(ticket.stacks, engine.stacks)
    forks = Forks(ticket, shield, engine)
    if ticket.channel is not None:
        shield.ring()
        signals.unblock_all()
    shield.own(descriptors(ticket, engine))
    born.engine = engine
    apps, ready = load(ticket, engine)
    hooks = Hooks(ticket.settings.hooks)
    hooks.after_load(OF_A_MOLD if ticket.trial else ticket.slot, ticket.generation)
    places.stop()
    if lost := shield.lost():
        raise PipelineError(f"while it loaded, the application closed descriptors of the worker: {lost}")
    shield.hold()
    if ticket.trial:
        ready = _judged(ticket, ready, engine, places, began)
        signals.block_all()
        life = Life(ticket, apps, ready, shield, engine)
        if not ready.stays:
            signals.unblock_all()
            _last_words(ticket, ready)
            return ExitCode.OK
        del life
        ticket = born.ticket = mold.serve(ticket, ready, forks)
        born.pid = os.getpid()
        engine.renew(ticket.row)
        shield.renew(ticket.stacks)
        shield.own(descriptors(ticket, engine))
        log.identify(log.identity(ticket.slot, ticket.generation, born.pid))
        with contextlib.suppress(Exception), shield.umask():  # they may have been moved away since the mold opened them
            log.reopen()
        if ticket.channel is not None and _is_over(ticket.channel):
            os._exit(ExitCode.OK)
        signals.unblock_all()
    hooks.after_fork(ticket.slot, ticket.generation)
    shield.hold()
    signals.block_all()  # until the loop runs: a handler of the application may raise, and would end the boot
    life = Life(ticket, apps, ready, shield, engine)
    forks.server = life.server
    born.before_exit = functools.partial(hooks.before_exit, ticket.slot, ticket.generation)
    code = life.run()
    born.patience = life.patience()
    return code


def _kind(ticket: channel.Ticket) -> str:
    return f"worker {ticket.slot}" if not ticket.trial else "mold" if ticket.mold else "trial"


def _judged(
    ticket: channel.Ticket, ready: channel.Ready, engine: base.Engine, places: Places, began: float
) -> channel.Ready:
    """Return what a trial says: whether it stays as a mold, or why not.

    Raises:
        ConfigError: the configuration wants a mold, and this process cannot be one.
    """
    from apid.worker import fingerprint, inspection

    preload = ticket.settings.daemon.preload
    if preload == "off":
        return ready
    unsafe = inspection.findings(engine, set(descriptors(ticket, engine).values()), places)
    if unsafe and preload == "on":
        raise ConfigError(
            f"option preload = on: processes cannot share what was opened while loading: {'; '.join(unsafe)}"
        )
    if unsafe:
        text = "preload = auto: each worker loads the application by itself, because processes cannot share what was opened while"
        ready = dataclasses.replace(ready, warnings=[*ready.warnings, f"{text} loading: {'; '.join(unsafe)}"])
    if unsafe or not ticket.mold:
        return dataclasses.replace(ready, unsafe=unsafe)
    files = [listener.paste.config_file for listener in ticket.settings.listeners]
    return dataclasses.replace(ready, stays=True, code=fingerprint.of(files, began))


def prepare(ticket: channel.Ticket) -> base.Engine:
    """Make this process ready for the application: engine, privileges, logging. Returns the engine.

    Raises:
        ConfigError: the operator's files are wrong.
    """
    settings = ticket.settings
    from apid.server import engines

    http = settings.http
    engine = engines.prepare(http.engine, http.pool_size, None if ticket.trial else ticket.row, http.where)
    daemon = settings.daemon
    if settings.database:
        os.environ["OS_DATABASE__CONNECTION"] = settings.database
    processes.drop_privileges(identity.of(daemon.user, daemon.group), daemon.umask)
    privileges.drop_capabilities()
    triple = log.identity(ticket.slot, ticket.generation, os.getpid())
    alone = f"{_kind(ticket)} gen={ticket.generation} pid={os.getpid()}"
    log.setup(settings.log, identity=alone if ticket.trial else triple)
    _not_alone(ticket)
    return engine


def load(ticket: channel.Ticket, engine: base.Engine) -> tuple[dict[str, Any], channel.Ready]:
    """Load the pipeline of each listener: (apps by listener name, the message for the parent).

    Raises:
        ConfigError: the user of this process cannot read a file that the parent could.
        PipelineError: a pipeline cannot be made.
    """
    from apid.worker import gil, pipeline

    settings = ticket.settings
    for listener in settings.listeners:
        try:
            text.content(listener.paste.config_file)
        except OSError as error:
            reason = text.unreadable(listener.paste.config_file, error)
            raise ConfigError(f"{listener.paste.where}: {reason}") from None
        _find_beside(listener.paste.config_file)
    with gil.watched() as turned_on:
        apps = {listener.name: pipeline.load(listener.paste) for listener in settings.listeners}
    report = {one.name: pipeline.describe(one.paste, apps[one.name]) for one in settings.listeners}
    warnings = [f"listener {one.name}: {text}" for one in settings.listeners for text in pipeline.warnings(one.paste)]
    return apps, channel.Ready(report, [*engine.warnings(), *turned_on, *warnings])


def descriptors(ticket: channel.Ticket, engine: base.Engine) -> dict[str, int]:
    """Return the descriptors that a worker inherits and needs, by description."""
    owned = engine.descriptors()
    if ticket.channel is not None:
        owned["the channel to the parent"] = ticket.channel.fileno()
    for name, group in ticket.listeners.items():
        owned |= {f"listener {name}, {sockets.spell(sock)}": sock.fileno() for sock in group}
    return owned


def _find_beside(config_file: str) -> None:
    """Let modules be found that lie beside an ini file and nowhere else, so that a project runs from where it was written.

    The folder is searched last: nothing that is installed can be replaced from there. One that is a package has none beside.
    """
    folder = Path(config_file).resolve().parent
    if str(folder) not in sys.path and not (folder / "__init__.py").exists():
        sys.path.append(str(folder))


def _not_alone(ticket: channel.Ticket) -> None:
    """While the application loads, which may hang, nobody here could notice the parent's death: the kernel does."""
    if ticket.channel is None:
        return
    processes.die_with_parent(True)
    if _is_over(ticket.channel):
        os._exit(ExitCode.OK)  # it is dead already


def _is_over(sock: socket.socket) -> bool:
    """Whether the other side of a channel is closed."""
    with contextlib.suppress(BlockingIOError):
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    return False


def _last_words(ticket: channel.Ticket, message: channel.Message) -> None:
    if ticket.channel is None:
        if isinstance(message, channel.BootFailed):  # inline: no parent reports it, and sys.stderr may be anything
            with contextlib.suppress(OSError):
                os.write(2, f"apid: {message.reason}\n{message.detail}".encode(errors="backslashreplace"))
        return
    try:
        ticket.channel.setblocking(True)
        ticket.channel.send(channel.encode(message))
    except OSError:
        if isinstance(message, channel.BootFailed):  # the application may have closed it
            LOG.critical("%s", message.reason, extra={"block": message.detail})
