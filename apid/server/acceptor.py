"""A listening socket as `eventlet.wsgi.server` sees it: what accept() does before, at and after accept(2).

Several workers wait at one socket. Three things make their loads even:

- EPOLLEXCLUSIVE with a new registration for each wait: the kernel wakes one waiter, the longest waiting, and none that is not
  waiting because it computes.
- One accept a turn of the hub.
- In a burst a look at the siblings before it: who has more connections than another leaves what waits to that one for a moment,
  so that the burst is not swallowed by the first that woke. A connection is never left for longer than the sum of the `STEPS`,
  whatever became of the others, and one that comes alone is taken at once.

A worker whose pool is full does not wait at the socket at all: the connection stays in the kernel's queue for a free sibling.
Errors of accept never end the loop: what concerns one connection is its own matter, what concerns the process is a pause.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable
from typing import Protocol

import greenlet

from apid import scoreboard
from apid.loggers import logger
from apid.posix import sockets
from apid.server.engines.eventlet.executor import Pool
from apid.server.engines.eventlet.loop import Hub

LOG = logger(__name__)

STEPS = (0.0005, 0.001, 0.002, 0.004, 0.008)
"""Seconds for which a connection is left to the siblings, looking after each."""

BURST = 0.02
"""Seconds since the last accept within which another one is part of a burst."""

PAUSE = 0.1
"""Seconds without accept after an error that concerns the process."""

LOG_INTERVAL = 10.0
"""Seconds between two log lines about such errors."""

PEERS_INTERVAL = 0.1
"""Seconds for which the list of siblings is kept."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Accepted(Protocol):
    """What a listener makes of an accepted descriptor."""

    def settimeout(self, seconds: float | None) -> None:
        """Called by eventlet.wsgi.server; the deadlines are the engine's own."""


class Listener:
    """One listening socket of one worker.

    Attributes:
        name: the listener's in the configuration. address: where it really listens, in the spelling of the option bind.
        family: as a socket's; `eventlet.wsgi.server` looks at it.
    """

    def __init__(  # noqa: PLR0917 -- each is another thing, and there is one caller
        self,
        name: str,
        sock: socket.socket,
        hub: Hub,
        pool: Pool,
        row: scoreboard.Row,
        connect: Callable[[int, object], Accepted],
        spare: Callable[[], bool],
    ) -> None:
        """Listen.

        Args:
            name: the listener's.
            sock: non-blocking and listening.
            hub: of this worker.
            pool: whose slots count.
            row: where it counts, and finds its siblings.
            connect: makes a connection of an accepted descriptor and its peer's address.
            spare: frees a descriptor if it can (an idle connection's) and says whether it did.
        """
        self.name = name
        self.address = sockets.spell(sock)
        self.family = sock.family
        self._sock = sock
        self._fd = sock.fileno()
        self._hub = hub
        self._pool = pool
        self._row = row
        self._connect = connect
        self._spare = spare
        self._waiter: greenlet.greenlet | None = None
        self._rung = False
        self._last = 0.0
        self._ignored: dict[int, int] = {}
        self._pause = 0.0
        self._logged = 0.0
        self._count = 0
        self._peers: list[int] = []
        self._peers_until = 0.0
        self._ending = ""  # "", "now" (siblings go on) or "empty" (the queue is answered to its end)
        self._kicked = False

    def __repr__(self) -> str:
        """Name and address."""
        return f"<Listener {self.name} fd={self._fd}>"

    def getsockname(self) -> object:
        """The address."""
        return self._sock.getsockname()

    def close(self) -> None:
        """Close this worker's copy of the descriptor. Never shutdown(): that would end it for every process."""
        self._unring()
        with contextlib.suppress(OSError):  # the application may have closed it by mistake
            self._sock.close()

    @property
    def closed(self) -> bool:
        """Whether `eventlet.wsgi.server` has closed it at its end."""
        return self._sock.fileno() < 0

    def end(self, *, empty: bool) -> None:
        """Let the server end; with `empty` only after the kernel's queue has been emptied."""
        self._ending = "empty" if empty else "now"
        self.kick()

    def kick(self) -> None:
        """Wake the accept loop to re-evaluate its state."""
        if not self._kicked and self._waiter is not None:
            self._kicked = True
            self._hub.soon.append(self._wake)

    def _wake(self) -> None:
        self._kicked = False
        waiter = self._waiter
        if waiter is not None:
            self._unring()
            waiter.switch()

    def ready(self, events: int) -> None:
        """Somebody waits at the socket; called by the hub."""
        del events
        self._row.cells[scoreboard.WAKEUPS] += 1
        self._unring()
        if self._waiter is not None:
            self._waiter.switch()

    def accept(self) -> tuple[Accepted, int]:
        """Return the next connection and a key for it that is unique, which an AF_UNIX peer's address is not.

        Raises:
            OSError: ESHUTDOWN at the end, which lets `eventlet.wsgi.server` leave its loop.
        """
        while True:
            if self._ending == "now":
                # A wake-up may have come to us and to nobody else: one try, so that nobody waits in vain.
                self._ending = "over"
            elif self._ending == "over":
                raise OSError(errno.ESHUTDOWN, "this worker no longer accepts")
            elif not self._ending:
                if not self._wait():
                    continue
                if not self._ending:
                    self._leave_to_siblings()
                if self._pool.full and not self._ending:
                    continue  # the pool has filled up since the wake-up; a sibling finds the connection at its next tick
            try:
                fd, address = self._sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001 -- without a socket object around it
            except BlockingIOError:
                if self._ending == "empty":
                    self._ending = "over"
                continue
            except OSError as error:
                self._trouble(error)
                continue
            self._row.cells[scoreboard.ACCEPTED] += 1
            self._count += 1
            if self._ending == "empty":
                self._yield(0)
            return self._connect(fd, address), self._count

    def _wait(self) -> bool:
        """Wait until accept is worth a try; False: look again whether it may be waited."""
        now = time.monotonic()
        if self._pool.full:
            self._yield(None)
            return False
        if self._pause > now:
            self._yield(self._pause - now)
            return False
        self._hub.ring(self._fd, self)
        self._rung = True
        self._yield(None)
        return True

    def _yield(self, seconds: float | None) -> None:
        """Switch to the hub until woken, or for some seconds at most."""
        hub = self._hub
        self._waiter = greenlet.getcurrent()
        timer = None if seconds is None else hub.schedule_call_global(seconds, self._wake)
        try:
            hub.switch()
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _unring(self) -> None:
        if self._rung:
            self._rung = False
            self._hub.unring(self._fd)

    def _leave_to_siblings(self) -> None:
        """In a burst, wait a moment while a sibling has fewer connections, by more than an eighth of ours."""
        now = time.monotonic()
        burst = now - self._last < BURST
        self._last = now
        if not burst or not self._row.connections[self._row.index]:
            return
        if now >= self._peers_until:
            self._peers_until = now + PEERS_INTERVAL
            every = self._row.connections.tolist()
            index = self._row.index
            self._peers = [at for at, count in enumerate(every) if count != scoreboard.CLOSED and at != index]
        for step in STEPS:
            if self._ending or not self._lighter():
                break
            self._yield(step)
        else:
            # Whoever has not stirred in all that time is busy, or worse: not waited for until it does.
            connections = self._row.connections
            self._ignored = {at: connections[at] for at in self._lighter()}
        self._last = time.monotonic()

    def _lighter(self) -> list[int]:
        connections = self._row.connections
        mine = connections[self._row.index]
        least = mine - (mine >> 3)
        ignored = self._ignored
        return [at for at in self._peers if (count := connections[at]) < least and ignored.get(at) != count]

    def _trouble(self, error: OSError) -> None:
        """What accept(2) can say. Only exhaustion is ours; all else died with the connection that it was about."""
        if error.errno not in _EXHAUSTED:
            if error.errno in (errno.EBADF, errno.EINVAL, errno.ENOTSOCK):
                self._ending = "over"
                LOG.error("listener %s can no longer accept: %s", self.name, error)
            return
        if self._spare():
            return
        now = time.monotonic()
        self._pause = now + PAUSE
        self._row.cells[scoreboard.ACCEPT_PAUSES] += 1
        if now >= self._logged:
            self._logged = now + LOG_INTERVAL
            LOG.warning("listener %s pauses: %s; the connections wait in the kernel's queue", self.name, error)
        if self._ending:
            self._yield(PAUSE)
