"""One request, from its head to the connection's next phase: the environ's last entries, the application's call, what it counts.

Runs in a green thread of the pool. How the answer is framed is response_writer.py's. Every error of an application is in the
log with the request's id, and a client sees a fault without details (S6, S7).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import greenlet

from apid import scoreboard
from apid.loggers import logger
from apid.server import forked
from apid.server.interruptions import ClientGone, ClientSlow, Cut, RequestTimeout
from apid.server.protocol import error_response
from apid.server.protocol.response_head import ResponseError
from apid.server.response_writer import DISCARD, Delivery
from apid.server.stream import TURN
from apid.server.wsgi_input import ContentInput, Input

LOG = logger(__name__)

# Looked up once: in a request's path each is worth a thirtieth of a microsecond.
_REQUESTS, _BYTES_OUT, _LATENCY_SUM_US = scoreboard.REQUESTS, scoreboard.BYTES_OUT, scoreboard.LATENCY_SUM_US
_monotonic_ns = time.monotonic_ns
_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (RequestTimeout, "timeout"), (Cut, "cut"), (ClientGone, "client_gone"), (ClientSlow, "client_slow"),
    (error_response.Refusal, "refused"),
)  # fmt: skip
_TABLE = 4096
_BUCKETS = [scoreboard.bucket(microseconds) for microseconds in range(_TABLE)]
_STATUS_CELL = [scoreboard.STATUS_1XX - 1 + hundred for hundred in range(10)]


class Exchange(Delivery):
    """One request and its answer.

    Attributes:
        number: the worker's running number of the request; request_id is made of it.
        started: nanoseconds of the monotonic clock when it began.
        deadline_from: when request_timeout began to run.
        wall_us: how long it took, once it is over.
    """

    __slots__ = ("deadline_from", "number", "started", "wall_us")

    def __repr__(self) -> str:
        """The request line and its age."""
        return f"<Exchange {self.request.line!r} {(time.monotonic_ns() - self.started) / 1e9:.1f} s>"

    def run(self) -> None:
        """Serve the request; whatever happens, the connection has gone to its next phase afterwards."""
        conn = self.conn
        service = conn.service
        head = self.request
        environ = self.environ
        shared = service.shared
        environ["apid.request_id"] = shared.next_id()
        self.number = number = shared.number
        self.started = self.deadline_from = started = _monotonic_ns()
        conn.turn = started + TURN
        conn.exchange = self
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = conn.address
        environ["eventlet.set_idle"] = conn.set_idle
        environ["apid.client_gone"] = conn.client_gone
        environ["eventlet.posthooks"] = []
        given: Input
        if head.content_length or head.chunked:
            given = ContentInput(conn, head.content_length, chunked=head.chunked, expects=head.expect_continue)
        else:
            given = Input(conn)
        self._input = environ["wsgi.input"] = environ["eventlet.input"] = given
        entry = service.row.depart(head.line, number, started)
        try:
            self._answer()
        except BaseException as error:  # noqa: BLE001 -- SystemExit and GreenletExit of an application end its request only
            if service.hub.abandoned:  # a process forked by the application
                forked.leave(error)
            self._failed(error)
        service.row.land(entry)
        ended = _monotonic_ns()
        self._count((ended - started) // 1000)
        hooks = environ.get("eventlet.posthooks")  # looked up anew: applications may put a list of their own there
        if hooks:
            self._call_hooks(hooks)
        if shared.access_log is not None:
            shared.access_log.request(self)
        conn.exchange = None
        if not self.close and given.complete:
            conn.idle(ended / 1e9)
        else:
            self._hand_back()

    @property
    def received(self) -> int:
        """Octets received of this request, as far as the application has read its content."""
        return self.request.size + self._input.position

    @property
    def request_id(self) -> str:
        """`req-…`, or what the application has put in its place, if that fits into a field and a log line."""
        given = self.environ.get("apid.request_id")
        if isinstance(given, str) and given and given.isascii() and given.isprintable():
            return given
        return f"{self.conn.service.shared.id_prefix}{self.number:012x}"

    def _answer(self) -> None:
        service = self.conn.service
        if service.complete is not None:
            service.complete(self.conn, self.environ)
        result = service.app(self.environ, self.start_response)
        if type(result) is list and self._head is not None and not self._on_wire:
            self._deliver_list(result)
            return
        try:
            self._deliver(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _failed(self, error: BaseException) -> None:
        """The application, or the client, has not let the answer become complete."""
        self.close = True
        causes = error, self._input.failure
        self.outcome = next((word for kind, word in _OUTCOMES for cause in causes if isinstance(cause, kind)), "failed")
        answer = self._explain(error)
        if self._on_wire or self.conn.taken or answer is None:
            if self._on_wire:
                self._abort()
            else:
                self.conn.end()
            return
        data = error_response.response(answer, self.request_id, self.conn.service.shared.date.field[6:-2])
        if self.request.method == "HEAD":
            data = data[: data.index(b"\r\n\r\n") + 4]
        try:
            self._send(data)
        except OSError:
            self.conn.end()
            return
        self.code = answer.status
        self.conn.service.row.refuse(answer.status)

    def _explain(self, error: BaseException) -> error_response.Refusal | None:
        """Log what happened, once; return what to say to the client, None where there is nobody to say it to."""
        line = self.request.line.decode("latin-1")
        failure = self._input.failure
        if isinstance(error, RequestTimeout):
            age = (time.monotonic_ns() - self.started) / 1e9
            begun = "; the answer had begun, and is broken off" if self._on_wire else ""
            LOG.warning("%s: %s ended by request_timeout after %.1f s%s", self.request_id, line, age, begun)
            return error_response.Refusal(503, "the request took too long")
        if isinstance(error, Cut):
            return None
        if isinstance(error, ClientGone) or isinstance(failure, ClientGone):
            LOG.info("%s: %s: the client has left", self.request_id, line)
            # It may have ended only its own side.
            return error_response.Refusal(400, "the request ended before its content was complete") if failure else None
        if isinstance(error, ClientSlow) or isinstance(failure, ClientSlow):
            LOG.info("%s: %s: %s", self.request_id, line, failure or error)
            return (
                error_response.Refusal(408, "the content of the request did not come in time")
                if failure is not None
                else None
            )
        broken = error if isinstance(error, error_response.Refusal) else failure
        if isinstance(broken, error_response.Refusal):
            LOG.info("%s: %s: refused: %s", self.request_id, line, broken)
            return broken
        if isinstance(error, greenlet.GreenletExit):
            LOG.error("%s: %s: the application killed its own green thread", self.request_id, line)
        elif isinstance(error, ResponseError):
            LOG.error("%s: %s: the application gave %s", self.request_id, line, error, exc_info=error)
        else:
            LOG.error("%s: %s failed", self.request_id, line, exc_info=error)
        return error_response.Refusal(500, "the server has failed to answer; its log tells why under the request id")

    def _call_hooks(self, hooks: list[tuple[Callable[..., object], Any, Any]]) -> None:
        for entry in hooks:
            try:
                hook, args, kwargs = entry
                hook(self.environ, *args, **kwargs)
            except BaseException:
                LOG.exception("%s: a posthook failed", self.request_id)

    def _count(self, microseconds: int) -> None:
        self.wall_us = microseconds
        service = self.conn.service
        cells = service.cells
        cells[_REQUESTS] += 1
        cells[_BYTES_OUT] += self.sent
        cells[_LATENCY_SUM_US] += microseconds
        if self.code:
            cells[_STATUS_CELL[self.code // 100]] += 1
        service.histogram[_BUCKETS[microseconds] if microseconds < _TABLE else scoreboard.bucket(microseconds)] += 1

    def _hand_back(self) -> None:
        """Let the connection go on where there is content to be got rid of, or end it."""
        conn = self.conn
        if conn.closed:
            return
        whole = self._input.complete
        if not self.close and self._input.discard(DISCARD):
            conn.idle(time.monotonic())
        elif conn.taken or (whole and not self.request.keep_alive and not conn.buffer):
            conn.end()  # the client said that nothing follows: no need to wait for it
        else:
            conn.finish()
