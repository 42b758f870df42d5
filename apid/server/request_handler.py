"""One request, from its head to what becomes of its connection: the environ's last entries, the application's call, its errors.

A task of the executor. How the answer is framed is response_writer.py's. Every error of an application is in the log with the
request's id, and a client sees a fault without details (S6, S7).
"""

from __future__ import annotations

import contextlib
import time
from typing import Protocol

from apid import scoreboard
from apid.loggers import logger
from apid.server import forked
from apid.server.context import Context
from apid.server.engines.base import Outcome
from apid.server.interruptions import ClientGone, ClientSlow, Cut, RequestTimeout
from apid.server.protocol import error_response
from apid.server.protocol.error_response import Refusal
from apid.server.protocol.request_head import Head
from apid.server.protocol.response_head import ResponseError
from apid.server.response_writer import DISCARD, ResponseWriter
from apid.server.stream import Stream
from apid.server.wsgi_input import WsgiInput

LOG = logger(__name__)

_monotonic_ns = time.monotonic_ns
_TOO_LONG = "the request took too long"
_KEEP_ALIVE = Outcome.KEEP_ALIVE
_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (RequestTimeout, "timeout"), (Cut, "cut"), (ClientGone, "client_gone"), (ClientSlow, "client_slow"), (Refusal, "refused"),
)  # fmt: skip


class Owner(Protocol):
    """Whose request it is: a connection."""

    address: tuple[str, str]
    own: bool
    proxied: bool

    def completed(self, handler: RequestHandler, outcome: Outcome) -> None:
        """It is over; called in the loop."""

    def end(self) -> None:
        """Close at once."""

    def set_idle(self) -> None:
        """`eventlet.set_idle`."""


class RequestHandler:
    """One request and its answer.

    Attributes:
        context: of the listener. stream: of the connection. request: its head. environ: the application's.
        owner: the connection.
        number: the worker's running number of the request; request_id is made of it.
        started: nanoseconds of the monotonic clock when it began; 0 while it waits for a slot.
        warned: when request_timeout was over last; 0: never.
        ended: nanoseconds of the monotonic clock when the application was done.
        response: the answer. input: the content.
        refused: the status that we have answered in place of the application, or 0.
        late: it should have ended, and could not be ended: its slot stays taken.
        outcome: `complete`, or what kept the answer from being so, in the access log's words.
    """

    # Defaults of the class on purpose, for what most requests neither read nor set.
    number = 0
    started = 0
    warned = 0
    ended = 0
    late = False
    outcome = "complete"
    response: ResponseWriter
    input: WsgiInput

    def __init__(self, context: Context, stream: Stream, request: Head, owner: Owner) -> None:
        self.context = context
        self.stream = stream
        self.request = request
        self.environ = request.environ
        self.owner = owner
        self.refused = 0

    def __repr__(self) -> str:
        """The request line and its age."""
        age = f"{(_monotonic_ns() - self.started) / 1e9:.1f} s" if self.started else "waiting for a slot"
        return f"<RequestHandler {self.request.line!r} {age}>"

    # In the loop

    def begin(self) -> None:
        """It has got a slot."""
        context = self.context
        head = self.request
        environ = self.environ
        stream = self.stream
        accounts = context.accounts
        environ["apid.request_id"] = accounts.next_id()
        self.number = number = accounts.number
        self.started = started = _monotonic_ns()
        stream.turn = 0
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = self.owner.address
        environ["apid.client_gone"] = stream.client_gone
        if head.content_length or head.chunked:
            self.input = given = WsgiInput.of(
                stream, context.limits, head.content_length, chunked=head.chunked, expects=head.expect_continue
            )
        else:
            self.input = given = WsgiInput(stream)
        environ["wsgi.input"] = given
        self.response = ResponseWriter(context, stream, head, given, number)
        if context.decorate is not None:
            context.decorate(environ, self.owner, given)
        self._entry = accounts.row.depart(head.line, number, started)

    def done(self, outcome: Outcome) -> None:
        """It is over."""
        response = self.response
        accounts = self.context.accounts
        row = accounts.row
        row.land(self._entry)
        if self.late:  # it has been counted and logged
            self.stream.received = self.stream.waits = 0
            self.owner.completed(self, Outcome.CLOSE)
            return
        accounts.answered((self.ended - self.started) // 1000, response.sent, response.code)
        head = self.request
        if head.content_length or head.chunked:
            accounts.took(self.stream.received, self.input.interim)
            self.stream.received = 0
        if self.refused:
            row.refuse(self.refused)
        stream = self.stream
        if stream.waits:
            accounts.cells[scoreboard.TIMEOUTS] += stream.waits
            stream.waits = 0
        if accounts.access_log is not None:
            accounts.access_log.request(self)
        self.owner.completed(self, outcome)

    def failed(self) -> None:
        """A bug of ours must not leave a connection behind that a drain would wait for."""
        self.owner.completed(self, Outcome.CLOSE)

    def expire(self) -> None:
        """request_timeout is over, and nothing can be thrown into the thread: answer in its place, and be done with it."""
        response = self.response
        claimed = response.claim()
        self._has_expired(begun=not claimed)
        if claimed:
            date = self.context.accounts.date.field[6:-2]
            data = error_response.response(Refusal(503, _TOO_LONG), self.request_id, date)
            with contextlib.suppress(OSError):
                response.sent += self.stream.write(data)
            response.code = 503
            self.context.accounts.row.refuse(503)
        self.context.accounts.row.stick(self._entry, self.number)
        self._settle("timeout")

    def cut(self) -> None:
        """A drain's deadline is over, and nothing can be thrown into the thread: be done with it."""
        self.response.claim()
        self._settle("cut")

    def _settle(self, outcome: str) -> None:
        """Count and log the request as it is, and shut its socket: whatever its thread reads or sends next fails."""
        self.late = True
        self.outcome = outcome
        self.ended = _monotonic_ns()
        accounts = self.context.accounts
        accounts.answered(self.wall_us, self.response.sent, self.response.code)
        if accounts.access_log is not None:
            accounts.access_log.request(self)
        self.stream.shut()

    @property
    def kind(self) -> int:
        """A number below 256 that requests of the same sort have in common: listener, method, the beginning of the path."""
        path = self.environ["PATH_INFO"]
        end = path.find("/", path.find("/", 1) + 1)
        return hash((self.context.name, self.request.method, path if end < 1 else path[:end])) & 0xFF

    # In the task

    def run(self) -> Outcome:
        """Serve the request."""
        context = self.context
        response = self.response
        environ = self.environ
        try:
            if context.completes:
                stream = self.stream
                context.complete(environ, self.owner, stream.local, stream.wire if stream.secure else None)
            response.deliver(context.app(environ, response.start_response))
        except BaseException as error:  # noqa: BLE001 -- SystemExit and GreenletExit of an application end its request only
            if context.engine.loop.abandoned:  # a process forked by the application
                forked.leave(error)
            self._failed(error)
        self.ended = _monotonic_ns()
        if context.hooks and (hooks := environ.get(context.hooks)):
            context.engine.finish(hooks, environ, self.request_id)
        if not response.close and self.input.complete:
            return _KEEP_ALIVE
        return self._hand_back()

    def _hand_back(self) -> Outcome:
        """Get rid of content that the application has not read, where there is little; or end the connection."""
        response = self.response
        if response.failed:
            self.outcome = "failed"
        if self.stream.taken:
            return Outcome.DETACHED
        if response.ending is not None:
            return response.ending
        whole = self.input.complete
        if not response.close and self.input.discard(DISCARD):
            return Outcome.KEEP_ALIVE
        if whole and not self.request.keep_alive and not self.stream.buffer:
            return Outcome.CLOSE  # the client said that nothing follows: no need to wait for it
        return Outcome.LINGER

    def _failed(self, error: BaseException) -> None:
        """The application, or the client, has not let the answer become complete."""
        response = self.response
        response.close = True
        if self.stream.taken and isinstance(error, StopIteration):
            response.code = 101  # how applications tell gunicorn that they have answered on its socket
            return
        causes = error, self.input.failure
        self.outcome = next((word for kind, word in _OUTCOMES for cause in causes if isinstance(cause, kind)), "failed")
        if self.late:
            response.ending = Outcome.CLOSE  # `expire` has said all that there is to say
            return
        answer = self._explain(error)
        if response.begun:
            response.abort()
        elif self.stream.taken or answer is None:
            response.ending = Outcome.CLOSE
        else:
            date = self.context.accounts.date.field[6:-2]
            try:
                response.explain(error_response.response(answer, self.request_id, date), answer.status)
            except OSError:
                response.ending = Outcome.CLOSE
            else:
                self.refused = answer.status

    def _has_expired(self, *, begun: bool) -> None:
        line = self.request.line.decode("latin-1")
        age = (_monotonic_ns() - self.started) / 1e9
        how = "ended by" if self.context.engine.executor.interrupts else "answered, but not ended, by"
        broken = "; the answer had begun, and is broken off" if begun else ""
        LOG.warning("%s: %s %s request_timeout after %.1f s%s", self.request_id, line, how, age, broken)

    def _explain(self, error: BaseException) -> Refusal | None:
        """Log what happened, once; return what to say to the client, None where there is nobody to say it to."""
        line = self.request.line.decode("latin-1")
        failure = self.input.failure
        if isinstance(error, RequestTimeout):
            self._has_expired(begun=self.response.begun)
            return Refusal(503, _TOO_LONG)
        if isinstance(error, Cut):
            return None
        if isinstance(error, ClientGone) or isinstance(failure, ClientGone):
            LOG.info("%s: %s: the client has left", self.request_id, line)
            # It may have ended only its own side.
            return Refusal(400, "the request ended before its content was complete") if failure else None
        if isinstance(error, ClientSlow) or isinstance(failure, ClientSlow):
            LOG.info("%s: %s: %s", self.request_id, line, failure or error)
            return Refusal(408, "the content of the request did not come in time") if failure is not None else None
        broken = error if isinstance(error, Refusal) else failure
        if isinstance(broken, Refusal):
            LOG.info("%s: %s: refused: %s", self.request_id, line, broken)
            return broken
        if (text := self.context.engine.killed(error)) is not None:
            LOG.error("%s: %s: %s", self.request_id, line, text)
        elif isinstance(error, ResponseError):
            LOG.error("%s: %s: the application gave %s", self.request_id, line, error, exc_info=error)
        else:
            LOG.error("%s: %s failed", self.request_id, line, exc_info=error)
        return Refusal(500, "the server has failed to answer; its log tells why under the request id")

    # What the access log reads

    @property
    def wall_us(self) -> int:
        """Microseconds that it took."""
        return (self.ended - self.started) // 1000

    @property
    def request_id(self) -> str:
        """`req-…`, or what the application has put in its place."""
        return self.response.request_id

    @property
    def code(self) -> int:
        """The status sent, or 0."""
        return self.response.code

    @property
    def sent(self) -> int:
        """Octets sent."""
        return self.response.sent

    @property
    def received(self) -> int:
        """Octets received of this request, as far as the application has read its content."""
        return self.request.size + self.input.position

    @property
    def listener(self) -> str:
        """Name of the listener."""
        return self.context.name
