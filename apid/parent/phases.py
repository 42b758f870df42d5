"""The parent's own phases, and what each command means in each of them.

A *command* is what a signal, a line on the control socket or a state of affairs asks for; signals and control commands enter by
the same table, so that `kill -HUP` and `apidctl reload` cannot drift apart. A change (reload, upgrade) is not a phase: it goes
on beside RUNNING, and its own progress is in `change`.
"""

from __future__ import annotations

import enum
import signal


class Phase(enum.StrEnum):
    """What the parent is about."""

    STARTING = "starting"
    """The first generation is not ready yet."""
    RUNNING = "running"
    QUIESCED = "quiesced"
    """Workers drained by WINCH, sockets kept; a reload brings workers back."""
    LEAVING = "leaving"
    """A stop was asked for: drain_delay runs, requests are still served; or workers boot to answer what is queued."""
    STOPPING = "stopping"
    """Workers drain."""
    HALTING = "halting"
    """Stop now: workers are being ended."""
    ENDED = "ended"


class Command(enum.StrEnum):
    """What can be asked of the parent."""

    STOP = "stop"
    HALT = "halt"
    RELOAD = "reload"
    UPGRADE = "upgrade"
    REOPEN = "reopen"
    GROW = "grow"
    SHRINK = "shrink"
    QUIESCE = "quiesce"
    SCALE = "scale"
    DUMP = "dump"


SIGNALS: dict[int, Command] = {
    signal.SIGTERM: Command.STOP,
    signal.SIGINT: Command.HALT,
    signal.SIGQUIT: Command.HALT,
    signal.SIGHUP: Command.RELOAD,
    signal.SIGUSR1: Command.REOPEN,
    signal.SIGUSR2: Command.UPGRADE,
    signal.SIGTTIN: Command.GROW,
    signal.SIGTTOU: Command.SHRINK,
    signal.SIGWINCH: Command.QUIESCE,
}

_ENDING = {Phase.LEAVING, Phase.STOPPING, Phase.HALTING, Phase.ENDED}

ONCE_IS_ENOUGH = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH})
"""Signals of which one that follows another at once says nothing new; TERM twice is another command, TTIN twice two workers."""

NEXT: dict[tuple[Phase, Command], Phase] = {
    (Phase.STARTING, Command.STOP): Phase.LEAVING,
    (Phase.RUNNING, Command.STOP): Phase.LEAVING,
    (Phase.QUIESCED, Command.STOP): Phase.LEAVING,
    # a second TERM: now
    (Phase.LEAVING, Command.STOP): Phase.HALTING,
    (Phase.STOPPING, Command.STOP): Phase.HALTING,
    **{(phase, Command.HALT): Phase.HALTING for phase in Phase if phase is not Phase.ENDED},
    (Phase.RUNNING, Command.QUIESCE): Phase.QUIESCED,
}
"""The phase that a command leads to at once; a pair that is absent changes no phase."""

REFUSALS: dict[tuple[Phase, Command], str] = {
    **{
        (phase, command): "the daemon is stopping"
        for phase in _ENDING
        for command in Command
        if command not in (Command.STOP, Command.HALT, Command.REOPEN, Command.DUMP)
    },
    (Phase.STARTING, Command.QUIESCE): "the daemon is still starting",
    (Phase.STARTING, Command.UPGRADE): "the daemon is still starting",
    **{
        (Phase.QUIESCED, command): "the daemon is quiesced; reload first"
        for command in (Command.UPGRADE, Command.GROW, Command.SHRINK, Command.SCALE)
    },
}
"""Commands that are refused in a phase, with the reason for the one who asked."""


def ending(phase: Phase) -> bool:
    """Whether a stop has been asked for."""
    return phase in _ENDING
