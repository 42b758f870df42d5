"""Guard: a process that outlives the parent and ends workers that cannot notice its death.

A worker notices the parent's death by the end of its channel, closes its listening sockets and drains. A worker that is blocked
(in a C call, in a native lock) does not notice, and would keep the port. The kernel's signal at a parent's death is no remedy: if
it is fatal it also ends healthy workers with their requests, and a handler needs an interpreter that is not blocked. So the
guard sleeps until the parent dies, gives each worker `SILENT` seconds to turn its loop, and kills those that did not. It also
enforces the deadlines of drains, as the parent would.

The guard relies on what workers write into their rows, so it has only the privileges of a worker, and writes nothing there. The
pids of the workers come from the parent's memory. It holds no socket and loads nothing. There is one guard for each scoreboard:
an upgrade keeps both, or makes both new and marks the old scoreboard, whose guard then ends nobody. It keeps its user: after a
reload that changes `user` it may lack permission to end workers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import select
import signal
import time
from typing import NoReturn

import setproctitle

from apid import log, scoreboard
from apid.conf import identity
from apid.conf.settings import Log, Settings
from apid.errors import ApidError
from apid.flight import in_words
from apid.loggers import logger
from apid.parent.dismissal import GRACE
from apid.parent.watch import SILENT
from apid.posix import privileges, processes

LOG = logger("apid.guard")

LOOK = 0.05
"""Seconds between two looks once the parent is dead."""


def start(board: scoreboard.Scoreboard, settings: Settings) -> None:
    """Start the guard of this process's workers; it ends when this process and all of them have ended.

    Raises:
        OSError: no process or descriptor is left.
    """
    if os.getpid() == 1:  # with the first process of a PID namespace all others end
        return
    parent = os.pidfd_open(os.getpid())
    try:
        processes.orphan(functools.partial(_guard, board, settings, parent))
    finally:
        os.close(parent)


@dataclasses.dataclass(slots=True)
class Ward:
    """A worker that was alive when the parent died.

    Attributes:
        pidfd: readable once it has ended (pidfd_open(2)).
    """

    pid: int
    pidfd: int
    row: scoreboard.Row


def overdue(cells: memoryview[int], died: int, now: int) -> str:
    """Return why a worker must be ended, or an empty string.

    Args:
        cells: its row.
        died: the time of the parent's death, CLOCK_MONOTONIC in ns.
        now: the time, by the same clock.
    """
    if cells[scoreboard.STATE] == scoreboard.State.READY:
        silent = (now - max(died, cells[scoreboard.BEAT_NS])) / 1e9
        if silent > SILENT:
            return f"it has been blocked for {silent:.1f} s and keeps its addresses"
        return "it has not noticed, and keeps its addresses" if now > died + GRACE * 1e9 else ""
    until = cells[scoreboard.UNTIL_NS]
    return "its drain has exceeded the deadline" if until and now > until + GRACE * 1e9 else ""


def _guard(board: scoreboard.Scoreboard, settings: Settings, parent: int) -> NoReturn:
    """Wait for the parent's death, then for the end of its workers; with all signals blocked."""
    setproctitle.setproctitle("apid: guard")
    board.in_child(None)
    processes.close_all_but(parent)
    daemon = settings.daemon
    try:
        processes.drop_privileges(identity.of(daemon.user, daemon.group), None)
    except ApidError:
        os._exit(0)  # no worker can become that user either, and the first one says so
    privileges.drop_capabilities()
    _wait(parent)
    died = time.monotonic_ns()
    wards = _wards(board) if board.is_current() else []
    if wards:
        _set_up_log(settings)
    while wards := judge(wards, died):
        time.sleep(LOOK)
    os._exit(0)


def _set_up_log(settings: Settings) -> None:
    """Log where the daemon does; to the standard error where the guard cannot open that, in a directory of root's for example."""
    who = f"guard pid={os.getpid()}"
    try:
        log.setup(settings.log, identity=who)
    except (ApidError, OSError):
        log.setup(Log(), identity=who)


def judge(wards: list[Ward], died: int) -> list[Ward]:
    """Kill the workers that are overdue; returns those that are neither killed nor ended.

    A worker is killed once: nothing more can be done for one that outlives it, in a system call that cannot be interrupted or as
    another user than the guard.

    Args:
        wards: the workers.
        died: as of `overdue`.
    """
    left = []
    for ward in wards:
        if _wait(ward.pidfd, 0):
            continue
        if reason := overdue(ward.row.cells, died, time.monotonic_ns()):
            _end(ward, reason)
        else:
            left.append(ward)
    return left


def _wards(board: scoreboard.Scoreboard) -> list[Ward]:
    """Return the living workers. Those that boot are not among them: the kernel has ended these with the parent."""
    found = []
    for row in board.living():
        if row.cells[scoreboard.STATE] in (scoreboard.State.READY, scoreboard.State.DRAINING):
            with contextlib.suppress(OSError, OverflowError):
                pid = row.seat[scoreboard.PID]
                found.append(Ward(pid, os.pidfd_open(pid), row))
    return found


def _wait(pidfd: int, milliseconds: int | None = None) -> bool:
    """Wait until a process has ended; returns whether it has."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(milliseconds))


def _end(ward: Ward, reason: str) -> None:
    slot, generation = ward.row.seat[scoreboard.SLOT], ward.row.seat[scoreboard.GENERATION]
    lost = in_words(ward.row.in_flight()) or "no request"
    text = "worker %d gen=%d pid=%d is killed: the parent is gone, and %s; in flight: %s"
    LOG.error(text, slot, generation, ward.pid, reason, lost)
    with contextlib.suppress(OSError):  # ESRCH: it has ended; EPERM: it has the user of a later configuration
        signal.pidfd_send_signal(ward.pidfd, signal.SIGKILL)
