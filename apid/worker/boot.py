"""A worker's birth: from the fork to serving, in the one order that works with eventlet.

Theory of operation. The hub is made first, after the fork (a hub that is shared with the parent shares its epoll descriptor,
and a child's changes would be the parent's). Then monkey_patch, then logging anew (its locks must be green), and only then the
application and everything it imports. Privileges are dropped before the application's first line runs. Ready is said when every
pipeline is loaded and every listener is served.

The parent imports this module before it forks: eventlet must only be imported inside functions.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import setproctitle

from apid import channel, log
from apid.errors import ApidError, ExitCode
from apid.posix import processes

STACKS = signal.SIGUSR2
"""The parent asks for this worker's stack with it; faulthandler answers in C, whatever the interpreter is doing."""


def run(ticket: channel.Ticket, at_end: Callable[[], None] | None = None) -> NoReturn:
    """Be a worker until the end of this process; called with all signals blocked, right after the fork.

    `at_end` is for who serves inline: os._exit runs no `finally` of the caller.
    """
    try:
        code = _live(ticket)
    except ApidError as error:
        _last_words(ticket, channel.BootFailed("config", str(error), getattr(error, "detail", "")))
        code = error.exit_code
    except BaseException as error:  # noqa: BLE001 - an application may raise anything while it loads, SystemExit too
        reason = f"the worker failed: {type(error).__name__}: {error}"
        _last_words(ticket, channel.BootFailed("crash", reason, traceback.format_exc()))
        code = ExitCode.BUG
    if at_end is not None:
        at_end()
    processes.flush()
    os._exit(code)


def _live(ticket: channel.Ticket) -> int:
    sys.argv = ["apid"]  # applications that parse it must not see the daemon's options
    faulthandler.enable()
    if ticket.stacks >= 0:
        faulthandler.register(STACKS, file=ticket.stacks, all_threads=True)
    what = "trial" if ticket.trial else f"worker {ticket.slot}"
    setproctitle.setproctitle(f"apid: {what} (generation {ticket.generation})")
    apps, report = load(ticket)
    if ticket.trial:
        _last_words(ticket, channel.Ready(report))
        return ExitCode.OK
    from apid.worker.life import Life

    return Life(ticket, apps, report).run()


def load(ticket: channel.Ticket) -> tuple[dict[str, Any], dict[str, Any]]:
    """Patch this process and load the pipeline of each listener: (apps, what --check-config prints), by listener name.

    Raises:
        PipelineError, ConfigError: the operator's files are wrong.
    """
    settings = ticket.settings
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    warnings.filterwarnings("ignore", message="'cgi' is deprecated")  # WebOb 1.8's import, on 3.11 and 3.12
    from apid.http import hub

    hub.install(None if ticket.trial else ticket.row)
    import eventlet

    eventlet.monkey_patch()
    triple = log.identity(ticket.slot, ticket.generation, os.getpid())
    log.setup(settings.log, identity=f"trial gen={ticket.generation} pid={os.getpid()}" if ticket.trial else triple)
    daemon = settings.daemon
    if settings.database:
        os.environ["OS_DATABASE__CONNECTION"] = settings.database
    processes.drop_privileges(daemon.user, daemon.group, daemon.umask)
    _not_alone(ticket)
    from apid.worker import pipeline

    for listener in settings.listeners:
        _find_beside(listener.paste.config_file)
    apps = {listener.name: pipeline.load(listener.paste) for listener in settings.listeners}
    report = {one.name: pipeline.describe(one.paste, apps[one.name]) for one in settings.listeners}
    return apps, report


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
    with contextlib.suppress(BlockingIOError):
        if not ticket.channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            os._exit(ExitCode.OK)  # it is dead already


def _last_words(ticket: channel.Ticket, message: channel.Message) -> None:
    if ticket.channel is None:
        if isinstance(message, channel.BootFailed):
            print(f"apid: {message.reason}", file=sys.stderr)  # noqa: T201 - inline: there is no parent to say it
            print(message.detail, file=sys.stderr, end="")  # noqa: T201 - as above
        return
    with contextlib.suppress(OSError):
        ticket.channel.setblocking(True)
        ticket.channel.send(channel.encode(message))
