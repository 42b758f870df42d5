"""A listening socket of one worker: what happens before, at and after accept(2). A callback machine of the loop.

Several workers wait at one socket. Three things make their loads even:

- EPOLLEXCLUSIVE with a new registration for each wait: the kernel wakes one waiter, the longest waiting, and none that is not
  waiting because it computes.
- One accept a turn of the loop.
- Native threads may compute while the loop waits. A worker where they do is not woken: it looks every `NAP` seconds whether its
  siblings have left a connection.
- In a burst a look at the siblings before it: who has more connections than another leaves what waits to that one for a moment,
  so that the burst is not swallowed by the first that woke. A connection is never left for longer than the sum of the `STEPS`,
  whatever became of the others, and one that comes alone is taken at once.

A worker whose executor is full does not wait at the socket at all: the connection stays in the kernel's queue for a free
sibling. Errors of accept never end it: what concerns one connection is its own matter, what concerns the process is a pause.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable
from typing import Any

from apid import scoreboard
from apid.loggers import logger
from apid.posix import sockets
from apid.server.engines import base

LOG = logger(__name__)

STEPS = (0.0005, 0.001, 0.002, 0.004, 0.008)
"""Seconds for which a connection is left to the siblings, looking after each."""

BURST = 0.02
"""Seconds since the last accept within which another one is part of a burst."""

LATE = 0.002
"""Seconds by which a loop is late where threads compute: one of them keeps the interpreter for 0.005 (Python's default)."""

NAP = 0.005
"""Seconds between two looks of a worker whose threads compute."""

PAUSE = 0.1
"""Seconds without accept after an error that concerns the process."""

LOG_INTERVAL = 10.0
"""Seconds between two log lines about such errors."""

PEERS_INTERVAL = 0.1
"""Seconds for which the list of siblings is kept."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """One listening socket of one worker.

    Attributes:
        name: the listener's in the configuration. address: where it really listens, in the spelling of the option bind.
        over: it accepts no more, and has closed its copy of the socket.
        accepted: is called with each descriptor and its peer's address.
        on_over: called at the end.
    """

    def __init__(
        self, name: str, sock: socket.socket, engine: base.Engine, row: scoreboard.Row, spare: Callable[[], bool]
    ) -> None:
        """Make one; it does nothing before `start`.

        Args:
            name: the listener's.
            sock: non-blocking and listening.
            engine: whose loop calls and whose slots count.
            row: where it counts, and finds its siblings.
            spare: frees a descriptor if it can (an idle connection's) and says whether it did.
        """
        self.name = name
        self.address = sockets.spell(sock)
        self.sock = sock
        self.accepted: Callable[[int, Any], object] = _nothing
        self.on_over: Callable[[], object] = _nothing
        self._fd = sock.fileno()
        self._loop = engine.loop
        self._executor = engine.executor
        self._row = row
        self._spare = spare
        self._registered = False
        self._timer: Any = None
        self._last = 0.0
        self._ignored: dict[int, int] = {}
        self._pause = 0.0
        self._logged = 0.0
        self._peers: list[int] = []
        self._peers_until = 0.0
        self._ending = ""  # "", "now" (siblings go on) or "empty" (the queue is answered to its end)
        self._kicked = False

    def __repr__(self) -> str:
        """Name and address."""
        return f"<Acceptor {self.name} fd={self._fd}>"

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.sock.fileno() < 0

    def start(self) -> None:
        """Begin to accept."""
        self._next()

    def end(self, *, empty: bool) -> None:
        """Accept no more; with `empty` only after the kernel's queue has been emptied."""
        self._ending = "empty" if empty else "now"
        self.kick()

    def close(self) -> None:
        """Close this worker's copy of the descriptor. Never shutdown(): that would end it for every process."""
        self._rest()
        with contextlib.suppress(OSError):  # the application may have closed it by mistake
            self.sock.close()
        self.on_over()

    def kick(self) -> None:
        """Look anew at what to do, in the next turn: the executor is full or has room again, or the end is near."""
        if not self._kicked:
            self._kicked = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        self._kicked = False
        if not self.over:
            self._rest()
            self._next()

    def _rest(self) -> None:
        """Wait for nothing."""
        if self._registered:
            self._registered = False
            self._loop.unregister_listener(self._fd)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _later(self, seconds: float, function: Callable[..., object], *args: object) -> None:
        def due() -> None:
            self._timer = None
            function(*args)

        self._timer = self._loop.call_later(seconds, due)

    def _next(self, *, soon: bool = False) -> None:
        """Wait for the next connection, or go on to the end."""
        if self._ending:
            self._take()
        elif self._executor.full:
            pass  # the executor's room is a kick
        elif self._pause and (pause := self._pause - time.monotonic()) > 0:
            self._later(pause, self._next)
        elif self._computes():
            self._later(0 if soon else NAP, self._take)
        else:
            self._loop.register_listener(self._fd, self)
            self._registered = True

    def _computes(self) -> bool:
        """Whether threads of this worker compute, and there are siblings."""
        if self._loop.late < LATE:
            return False
        self._look_at_siblings(time.monotonic())
        return bool(self._peers)

    def ready(self, events: int) -> None:
        """Somebody waits at the socket; called by the loop."""
        del events
        self._row.cells[scoreboard.WAKEUPS] += 1
        self._rest()
        now = time.monotonic()
        burst = now - self._last < BURST
        self._last = now
        if not self._ending and burst and self._row.connections[self._row.index]:
            self._look_at_siblings(now)
            self._leave_to_siblings(0)
        else:
            self._take()

    def _look_at_siblings(self, now: float) -> None:
        if now >= self._peers_until:
            self._peers_until = now + PEERS_INTERVAL
            every = self._row.connections.tolist()
            index = self._row.index
            self._peers = [at for at, count in enumerate(every) if count != scoreboard.CLOSED and at != index]

    def _leave_to_siblings(self, step: int) -> None:
        """Wait a moment while a sibling has fewer connections, by more than an eighth of ours."""
        lighter = () if self._ending else self._lighter()
        if lighter and step < len(STEPS):
            self._later(STEPS[step], self._leave_to_siblings, step + 1)
            return
        if lighter:
            # Whoever has not stirred in all that time is busy, or worse: not waited for until it does.
            connections = self._row.connections
            self._ignored = {at: connections[at] for at in lighter}
        self._last = time.monotonic()
        self._take()

    def _lighter(self) -> list[int]:
        connections = self._row.connections
        mine = connections[self._row.index]
        least = mine - (mine >> 3)
        ignored = self._ignored
        return [at for at in self._peers if (count := connections[at]) < least and ignored.get(at) != count]

    def _take(self) -> None:
        """Accept one connection."""
        if self._executor.full and not self._ending:
            return  # it has filled up since the wake-up; a sibling finds the connection at its next tick
        try:
            fd, address = self.sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001 -- without a socket object around it
        except BlockingIOError:
            if self._ending:
                self.close()
            else:
                self._next()
            return
        except OSError as error:
            self._trouble(error)
            return
        self._row.cells[scoreboard.ACCEPTED] += 1
        self.accepted(fd, address)
        if self._ending == "now":
            # A wake-up may have come to us and to nobody else: that was the one try, so that nobody waits in vain.
            self.close()
        elif self._ending:
            self._later(0, self._next)
        else:
            self._next(soon=True)

    def _trouble(self, error: OSError) -> None:
        """What accept(2) can say. Only exhaustion is ours; all else died with the connection that it was about."""
        if error.errno in (errno.EBADF, errno.EINVAL, errno.ENOTSOCK):
            LOG.error("listener %s can no longer accept: %s", self.name, error)
            self.close()
            return
        if error.errno in _EXHAUSTED and not self._spare():
            now = time.monotonic()
            self._pause = now + PAUSE
            self._row.cells[scoreboard.ACCEPT_PAUSES] += 1
            if now >= self._logged:
                self._logged = now + LOG_INTERVAL
                LOG.warning("listener %s pauses: %s; the connections wait in the kernel's queue", self.name, error)
            if self._ending:
                self._later(PAUSE, self._next)
                return
        if self._ending == "now":
            self.close()
        elif self._ending:
            self._later(0, self._next)
        else:
            self._next()


def _nothing(*_: object) -> None:
    """Until somebody wants to know."""
