"""Processes that the application forks inside a worker: they give up everything that makes a worker.

`os.fork`, `multiprocessing` with the start method fork, `pty.fork` and `subprocess` with a function to call before the exec
copy the whole worker: its listening sockets, connections, channel, hub and green threads. The copy would accept connections,
answer other requests a second time, keep the port after a stop and count into the worker's row. So the child gives everything
up before the first line of the application runs there (os.register_at_fork): sockets are closed, never shut down; the
scoreboard becomes its own; a new hub takes the place of the old one, and green threads of other requests never run. An
ordinary `subprocess` needs none of this: every descriptor is close-on-exec.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import types
from collections.abc import Callable

import greenlet
import setproctitle
from eventlet import tpool

from apid import channel
from apid.posix import processes
from apid.server.engines.eventlet import loop
from apid.server.server import Server
from apid.worker.shield import STACKS, Shield


class Forks:
    """Registered once in a worker, before the application loads.

    Attributes:
        bell: the worker's signals; server: what serves. Both None until there is one.
    """

    def __init__(self, ticket: channel.Ticket, shield: Shield, after_fork: types.CodeType) -> None:
        """Register.

        Args:
            ticket: the worker's.
            shield: the worker's.
            after_fork: code of the at-fork function of `threading`. monkey_patch replaces it with an empty one, because green
                threads survive a fork; here they do not.
        """
        self._ticket = ticket
        self._shield = shield
        self._after_fork = types.FunctionType(after_fork, vars(threading))
        self._masks: dict[greenlet.greenlet, set[int]] = {}
        self._hub = loop.current()
        self._left = False
        self.server: Server | None = None
        os.register_at_fork(before=self._before, after_in_parent=self._unblock, after_in_child=self._give_up)

    def _before(self) -> None:
        """Block signals: the child still has the handlers and the wakeup descriptor of the worker."""
        processes.flush()  # or both write what is in the buffer
        self._masks[greenlet.getcurrent()] = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())

    def _unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(greenlet.getcurrent(), ()))

    def _give_up(self) -> None:
        self._hub.abandon()
        loop.install(None)
        self._hub = loop.current()  # for a child of the child
        steps: list[Callable[[], object]] = [self._threading, self._unblock]
        if not self._left:
            self._left = True
            steps = [self._sockets, self._signals, self._memory, _native_threads, self._name, *steps]
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
            faulthandler.unregister(STACKS)
            os.close(self._ticket.stacks)

    def _memory(self) -> None:
        self._ticket.board.make_private(self._ticket.row)

    def _threading(self) -> None:
        """Make this thread the main thread and mark all others as ended; otherwise multiprocessing waits for them at its end."""
        active: dict[int, object] = vars(threading)["_active"]
        if not isinstance(active.get(threading.get_ident()), threading.Thread):
            active.pop(threading.get_ident(), None)  # of eventlet's copy of the module; it lacks methods
        self._after_fork()

    def _name(self) -> None:
        setproctitle.setproctitle(f"apid: child of worker {self._ticket.slot}")


def _native_threads() -> None:
    """Reset eventlet's thread pool: native threads do not survive a fork, and work given to them would never be done."""
    if not tpool._setup_already:  # noqa: SLF001 - it has no other name
        return
    tpool._setup_already = False  # noqa: SLF001 - as above
    tpool._threads.clear()  # noqa: SLF001 - as above
    tpool._rsock.fd.close()  # noqa: SLF001 - below the hub, which knows nothing of it
    tpool._wsock.close()  # noqa: SLF001 - as above
