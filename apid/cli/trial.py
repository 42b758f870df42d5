"""`--check-config`: loads configuration and every pipeline in a child process, prints what it found, serves nothing."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Sequence
from typing import NoReturn

from apid import channel, conf
from apid.cli import addresses
from apid.cli import check as rendering
from apid.conf.settings import Settings
from apid.errors import ConfigError, ExitCode, PipelineError
from apid.parent import foundations, ownlog
from apid.posix import processes, rights
from apid.scoreboard import Scoreboard


def check(argv: Sequence[str], asker: int | None = None) -> int:
    """Print the effective options, the pipeline of each listener and its routes; returns 0.

    `asker` is the pid of the daemon that wants to become this program, in the preflight of an upgrade.

    Raises:
        ApidError: the configuration or a pipeline is wrong, or an address cannot be had; nothing was served.
    """
    settings = conf.load(argv)
    found = addresses.examine(settings, asker)
    if found.errors:
        raise ConfigError("\n".join(found.errors + found.notes))
    message = _try(settings)
    if isinstance(message, channel.BootFailed):
        raise PipelineError(message.reason if not message.detail else f"{message.reason}\n{message.detail.rstrip()}")
    notes = [*found.notes, *message.warnings, *foundations.findings(settings)]
    print(rendering.render(settings, message.report, notes, message.unsafe))  # noqa: T201 - its output
    return ExitCode.OK


def _try(settings: Settings) -> channel.Ready | channel.BootFailed:
    ownlog.reserve(settings)  # as a start does: the child may not be able to open it
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    rights.refuse(ours)
    board = Scoreboard.create()
    ticket = channel.Ticket(0, 1, settings, {}, theirs, board, board.row(0), trial=True)

    def child() -> NoReturn:
        from apid.worker import boot

        ours.close()
        board.in_child(board.row(0))
        boot.run(ticket)

    pid = processes.fork(child)
    theirs.close()
    timeout = settings.daemon.startup_timeout
    with ours, selectors.DefaultSelector() as selector:
        selector.register(ours, selectors.EVENT_READ)
        if not selector.select(timeout or None):
            processes.kill(pid, 9)
            processes.wait(pid)
            return channel.BootFailed("config", f"the pipelines did not load within {timeout:g} s (startup_timeout)")
        packet = ours.recv(channel.MAX_MESSAGE + 1)
    if not processes.ended(pid, timeout or None):
        processes.kill(pid, 9)
        return channel.BootFailed("crash", f"the child that loads the pipelines did not end within {timeout:g} s")
    code = dict(processes.reap()).get(pid)  # a wait may never return: another process may trace it
    if packet:
        try:
            message = channel.decode(packet, channel.Sender.TRIAL)
        except channel.ChannelError as error:
            return channel.BootFailed("crash", f"protocol violation of the child that loads the pipelines: {error}")
        if isinstance(message, channel.Ready | channel.BootFailed):
            return message
    return channel.BootFailed(
        "crash", f"the child that loads the pipelines ended ({processes.describe_end(code or 0)})"
    )
