"""Processes that the application forks inside a worker: they give up everything that makes a worker.

`os.fork`, `multiprocessing` with the start method fork, `pty.fork` and `subprocess` with a function to call before the exec
copy the whole worker: its listening sockets, connections, channel and event loop. The copy would accept connections, answer
other requests a second time, keep the port after a stop and count into the worker's row. So the child gives everything up
before the first line of the application runs there (os.register_at_fork): sockets are closed, never shut down; the scoreboard
becomes its own; the loop of the worker stands still (under eventlet a new hub replaces it), and green threads of other
requests never run. An ordinary `subprocess` needs none of this: every descriptor is close-on-exec.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from collections.abc import Callable

import setproctitle

from apid import channel
from apid.posix import processes, signals
from apid.server.engines import base
from apid.server.server import Server
from apid.worker.shield import Shield


class Forks:
    """Registered once in a worker, before the application loads.

    Attributes:
        server: what serves; None until there is one.
        bearing: a mold forks a worker, which gives up nothing.
    """

    def __init__(self, ticket: channel.Ticket, shield: Shield, engine: base.Engine) -> None:
        """Register; all three are the worker's."""
        self._ticket = ticket
        self._shield = shield
        self._engine = engine
        self._masks: dict[object, set[int]] = {}
        self._left = False
        self.bearing = False
        self._between = 0
        self.server: Server | None = None
        os.register_at_fork(before=self._before, after_in_parent=self._unblock, after_in_child=self._give_up)

    def move_in(self, ticket: channel.Ticket) -> None:
        """In a worker that a mold has forked: it has a ticket of its own."""
        self._ticket = ticket
        self.bearing = False

    def _before(self) -> None:
        """Block signals: the child still has the handlers and the wakeup descriptor of the worker."""
        if self.bearing:
            self._between = os.getpid()
            return
        processes.flush()  # or both write what is in the buffer
        self._masks[self._engine.thread()] = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())

    def _unblock(self) -> None:
        if self.bearing:
            return
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(self._engine.thread(), ()))

    def _give_up(self) -> None:
        if self.bearing:  # before the application's own at-fork functions, which may hang
            processes.await_adoption(self._between)
            return
        self._engine.abandon()
        steps: list[Callable[[], object]] = [self._engine.become_main_thread, self._unblock]
        if not self._left:
            self._left = True
            steps = [self._sockets, self._signals, self._memory, self._name, *steps]
        for step in steps:
            with contextlib.suppress(Exception):  # each is worth doing without the others, and nobody could be told
                step()

    def _sockets(self) -> None:
        ticket = self._ticket
        if self.server is not None:
            self.server.forget()
        for group in ticket.listeners.values():
            for sock in group:
                sock.close()
        if ticket.channel is not None:
            ticket.channel.close()

    def _signals(self) -> None:
        if self._shield.bell is not None:
            self._shield.bell.forget()
        if self._ticket.stacks >= 0:
            signal.signal(signals.STACKS, signal.SIG_DFL)
            faulthandler.unregister(signals.LAST_STACKS)
            os.close(self._ticket.stacks)

    def _memory(self) -> None:
        self._ticket.board.make_private(self._ticket.row)

    def _name(self) -> None:
        setproctitle.setproctitle(f"apid: child of worker {self._ticket.slot}")
