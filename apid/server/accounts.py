"""What a worker numbers and counts: request ids, the scoreboard's cells, its open connections, the access log's lines.

Written in the loop only; tasks read `closing`, `date` and `draining`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from apid import scoreboard
from apid.conf.settings import Http
from apid.flight import request_id_prefix
from apid.loggers import logger
from apid.server.access_log import AccessLog, Refused
from apid.server.engines import base
from apid.server.protocol import error_response
from apid.server.protocol.response_head import Date
from apid.server.unfinished import Unfinished

LOG = logger(__name__)

_OCTETS = [f"{octet:02x}" for octet in range(256)]
_REQUESTS, _BYTES_OUT, _LATENCY_SUM_US = scoreboard.REQUESTS, scoreboard.BYTES_OUT, scoreboard.LATENCY_SUM_US
_TABLE = 4096
_BUCKETS = [scoreboard.bucket(microseconds) for microseconds in range(_TABLE)]
_STATUS_CELL = [scoreboard.STATUS_1XX - 1 + hundred for hundred in range(10)]


class Member(Protocol):
    """An open connection, as far as it is counted and drained."""

    def drain(self, now: float) -> None:
        """The worker drains."""


class Accounts:
    """Of one worker.

    Attributes:
        row, cells, histogram: where it counts.
        number: of the last request; request ids are made of it.
        id_prefix: what this worker's request ids have in common.
        draining: whether this worker drains; closing: whether responses announce the end of their connections.
        accepting: whether it takes new connections.
        connections: all open ones; unfinished: those among them whose number is limited.
        access_log: None when off.
    """

    def __init__(self, row: scoreboard.Row, settings: Http, executor: base.Executor) -> None:
        self.row = row
        self.cells = row.cells
        self.histogram = row.histogram
        self.number = 0
        self.date = Date()
        self.draining = False
        self.closing = not settings.keepalive
        self.accepting = False
        self.connections: set[Any] = set()
        self.unfinished = Unfinished()
        self.access_log: AccessLog | None = None
        self._executor = executor
        # A UUID's version and variant bits (RFC 9562 §5.4), so that who validates ids is content.
        high = int.from_bytes(os.urandom(8), "big") & ~0xF000 | 0x4000
        low = int.from_bytes(os.urandom(2), "big") & 0x3FFF | 0x8000
        row.cells[scoreboard.REQUEST_ID_HIGH], row.cells[scoreboard.REQUEST_ID_LOW] = high, low
        self.id_prefix = request_id_prefix(high, low)
        self._id_begin = ""
        self._begin_ids()
        row.cells[scoreboard.POOL_LIMIT] = executor.size

    def open_log(self, settings: Http, call_later: Callable[..., object]) -> None:
        """Open the access log; raises ConfigError."""
        if settings.access_log != "off":
            self.access_log = AccessLog(settings, call_later, self._count_lost)

    def _count_lost(self, lines: int) -> None:
        self.cells[scoreboard.ACCESS_LOG_LOST] += lines

    # Request ids

    def next_id(self) -> str:
        """Make the id of the next request, or of what is answered without becoming one; `number` is its number."""
        self.number = number = self.number + 1
        octet = number & 0xFF
        if not octet:
            self._begin_ids()
        return self._id_begin + _OCTETS[octet]

    def id_of(self, number: int) -> str:
        """Make the id of an earlier request again."""
        return f"{self.id_prefix}{number:012x}"

    def _begin_ids(self) -> None:
        """Formatting a number costs: all but its last octet is done once in 256 times."""
        self._id_begin = f"{self.id_prefix}{self.number >> 8:010x}"

    # Connections

    def enter(self, conn: Member) -> None:
        """A connection has been accepted."""
        self.connections.add(conn)
        self.count()

    def leave(self, conn: Any) -> None:
        """A connection is over."""
        self.connections.discard(conn)
        self.unfinished.discard(conn)
        self.count()

    def count(self) -> None:
        """Write how many connections there are, for the siblings and for whoever looks."""
        count = len(self.connections)
        cells = self.cells
        cells[scoreboard.CONNECTIONS] = count
        cells[scoreboard.IDLE] = max(0, count - self._executor.busy)
        self.row.connections[self.row.index] = count if self.accepting else scoreboard.CLOSED

    def gauge(self) -> None:
        """Write the numbers of the moment."""
        cells = self.cells
        busy = self._executor.busy
        if cells[scoreboard.IN_FLIGHT] != busy:
            cells[scoreboard.IN_FLIGHT] = busy
            cells[scoreboard.IDLE] = max(0, len(self.connections) - busy)

    # Answers

    def answered(self, microseconds: int, sent: int, code: int) -> None:
        """Count a request that is over: how long it took, octets sent, and the status, 0 for none."""
        cells = self.cells
        cells[_REQUESTS] += 1
        cells[_BYTES_OUT] += sent
        cells[_LATENCY_SUM_US] += microseconds
        if code:
            cells[_STATUS_CELL[code // 100]] += 1
        self.histogram[_BUCKETS[microseconds] if microseconds < _TABLE else scoreboard.bucket(microseconds)] += 1

    def took(self, received: int, interim: Iterable[int]) -> None:
        """Count octets of content received, and sizes of interim answers, each of which a final one follows."""
        self.cells[scoreboard.BYTES_IN] += received
        for size in interim:
            self.cells[scoreboard.STATUS_1XX] += 1
            self.cells[scoreboard.BYTES_OUT] += size

    def refusal(self, refused: error_response.Refusal, address: tuple[str, str], listener: str) -> bytes:
        """Count and log what became no request, and return the answer."""
        request_id = self.next_id()
        data = error_response.response(refused, request_id, self.date.field[6:-2])
        self.row.refuse(refused.status)
        self.cells[scoreboard.BYTES_OUT] += len(data)
        self.cells[_STATUS_CELL[refused.status // 100]] += 1
        LOG.info("%s: refused a request from %s: %s", request_id, address[0] or "unix", refused)
        if self.access_log is not None:
            self.access_log.request(Refused(address, listener, refused.status, request_id, len(data)))
        return data
