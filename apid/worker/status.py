"""What `environ["apid.status"]` gives an application: the status document of the whole daemon, from shared memory alone.

Nobody is asked, so it answers in a worker of any generation, while the parent is busy, stopped or gone.
"""

from __future__ import annotations

import os
import time
from typing import Any

from apid import channel, scoreboard
from apid import status as documents
from apid.bulletin import Bulletin
from apid.posix import accept_queue, sockets
from apid.posix.accept_queue import AcceptQueue
from apid.version import VERSION


class Status:
    """The callable."""

    def __init__(self, ticket: channel.Ticket) -> None:
        self._ticket = ticket
        self._bulletin = Bulletin(ticket.board.bulletin)
        self._sockets = {sockets.spell(sock): sock for group in ticket.listeners.values() for sock in group}
        self._started = time.monotonic()

    def __call__(self, *, flights: int = 0) -> dict[str, Any]:
        """Return the document of docs/STATUS.md.

        Args:
            flights: how many requests in flight are listed for each worker, the oldest first.
        """
        facts = self._bulletin.read() or self._alone()
        now = time.monotonic()
        return documents.document(
            facts, self._ticket.board, self._queue, now=now, flights=flights, seen_from=os.getpid()
        )

    def _queue(self, address: str) -> AcceptQueue | None:
        sock = self._sockets.get(address)
        return accept_queue.look(sock) if sock is not None else None

    def _alone(self) -> dict[str, Any]:
        """The facts where there is no parent (workers = 0)."""
        ticket, draining = self._ticket, self._ticket.row.cells[scoreboard.STATE] == scoreboard.State.DRAINING
        pid, stage = os.getpid(), "draining" if draining else "ready"
        return {
            "version": VERSION,
            "pid": pid,
            "line": "serving inline, without workers",
            "phase": "stopping" if draining else "running",
            "degraded": False,
            "started": self._started,
            "generation": ticket.generation,
            "wanted": 0,
            "ready": 0,
            "listeners": [
                {"name": name, "address": sockets.spell(sock)}
                for name, group in ticket.listeners.items()
                for sock in group
            ],
            "listeners_omitted": 0,
            "change": None,
            "history": [],
            "changes": {},
            "ends": {},
            "last_end": {},
            "outdated": None,
            "molds": [],
            "workers": [
                {
                    "slot": ticket.slot,
                    "pid": pid,
                    "generation": ticket.generation,
                    "row": ticket.row.index,
                    "stage": stage,
                    "stalled": False,
                    "cause": None,
                    "spawned": self._started,
                }
            ],
        }
