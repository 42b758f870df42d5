"""One request and its answer: the environ's last entries, the application's call, the framing of what it returns.

Runs in a green thread of the pool. How a response's head is written is response.py's, how octets travel connection.py's.

The one rule behind the rest: what leaves here is one complete response, or the connection ends in a way that the client can
tell from a complete one (promise S3). Every error of an application is in the log with the request's id, and a client sees a
fault without details (S6, S7).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import eventlet.wsgi
import greenlet

from apid import scoreboard
from apid.http import refusal
from apid.http.file_wrapper import FileWrapper
from apid.http.input import ContentInput, Input
from apid.http.interruptions import ClientGone, ClientSlow, Cut, RequestTimeout
from apid.http.response import LAST_CHUNK, ResponseError, ResponseHead, chunk

if TYPE_CHECKING:
    from apid.http.connection import Connection

LOG = logging.getLogger(__name__)

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

TOGETHER = 65536
"""Octets up to which pieces are joined to be sent at once; copying more costs more than a system call."""

BODYLESS = frozenset({204, 304})
"""Statuses of answers without content (RFC 9112 §6.3)."""

DISCARD = 262144
"""Octets of content that the application did not want that are read to keep the connection."""


# Looked up once: in a request's path each is worth a thirtieth of a microsecond.
_REQUESTS, _BYTES_OUT, _LATENCY_SUM_US = scoreboard.REQUESTS, scoreboard.BYTES_OUT, scoreboard.LATENCY_SUM_US
_monotonic_ns = time.monotonic_ns
_TABLE = 4096
_BUCKETS = [scoreboard.bucket(microseconds) for microseconds in range(_TABLE)]
_STATUS_CELL = [scoreboard.STATUS_1XX - 1 + hundred for hundred in range(10)]


_lengths: dict[int, bytes] = {}


def _length_field(length: int) -> bytes:
    """Write Content-Length, and keep those of small answers: there are few, and formatting costs as much as a header."""
    field = b"Content-Length: %d\r\n" % length
    if length < _TABLE:
        _lengths[length] = field
    return field


class Exchange:
    """One request and its answer.

    Attributes:
        number: the worker's running number of the request; request_id is made of it.
        started: nanoseconds of the monotonic clock when it began.
        deadline_from: when request_timeout began to run.
        code: the status sent, or 0.
        sent: octets sent, head and framing included. wall_us: how long it took, once it is over.
    """

    __slots__ = (
        "_chunked",
        "_head",
        "_input",
        "_left",
        "_on_wire",
        "_silent",
        "close",
        "code",
        "conn",
        "deadline_from",
        "environ",
        "number",
        "request",
        "sent",
        "started",
        "wall_us",
    )

    def __init__(self, conn: Connection) -> None:
        assert conn.head is not None  # noqa: S101 -- the pool runs a connection only with one; told to mypy
        self.conn = conn
        self.request = conn.head
        self.environ = conn.head.environ
        self._head: ResponseHead | None = None
        self._on_wire = False  # the head has been sent
        self._chunked = False
        self._left: int | None = None  # of a declared Content-Length
        self.close = False
        self.code = 0
        self.sent = 0

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
        conn.exchange = self
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = conn.address
        environ["eventlet.set_idle"] = conn.set_idle
        environ["eventlet.posthooks"] = []
        given: Input
        if head.content_length or head.chunked:
            given = ContentInput(conn, head.content_length, chunked=head.chunked, expects=head.expect_continue)
        else:
            given = Input(conn)
        self._input = environ["wsgi.input"] = environ["eventlet.input"] = given
        if service.complete is not None:
            service.complete(conn, environ)
        entry = service.row.depart(head.line, number, started)
        try:
            self._answer()
        except BaseException as error:  # noqa: BLE001 -- SystemExit and GreenletExit of an application end its request only
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
        result = self.conn.service.app(self.environ, self.start_response)
        if type(result) is list and self._head is not None and not self._on_wire:
            self._deliver_list(result)
            return
        try:
            self._deliver(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's start_response.

        Raises:
            ResponseError: status or headers must not go on the wire.
            AssertionError: called a second time without exc_info.
        """
        if exc_info is not None:
            try:
                if self._on_wire:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no circle through the traceback
        elif self._head is not None:
            raise AssertionError("start_response was called a second time without exc_info")
        self._head = ResponseHead(status, headers)
        return self.write

    def write(self, data: bytes) -> None:
        """Send what it is given before it returns (PEP 3333)."""
        self._emit(data)

    def _deliver_list(self, result: list[bytes]) -> None:
        """A complete answer: its length is known, and one send is enough for a small one."""
        body = result[0] if len(result) == 1 else b"".join(map(_octets, result))
        if type(body) is not bytes:
            body = _octets(body)
        head = self._head
        assert head is not None  # noqa: S101 -- the caller's condition, told to mypy
        bodyless = self.request.method == "HEAD" or head.code in BODYLESS
        if head.length is None:
            # What a HEAD leaves out is not always nothing: then nothing is said of its length (RFC 9110 §8.6).
            if body or not bodyless:
                head.length = len(body)
        elif head.length != len(body) and not bodyless:
            self._deliver(result)
            return
        data = self._open()
        self._left = None
        if bodyless:
            self._send(data)
        elif len(body) <= TOGETHER:
            data += body
            self.conn.send(data)
            self.sent = len(data)
        else:
            self._send(data)
            self._send(body)

    def _deliver(self, result: Iterable[bytes]) -> None:
        """Anything else: piece by piece, each sent as it comes."""
        if isinstance(result, FileWrapper) and self._head is not None and self._sendfile(result):
            return
        self._stream(result)
        if self._head is None:
            if self.conn.taken or getattr(eventlet.wsgi.WSGI_LOCAL, "already_handled", False):
                eventlet.wsgi.WSGI_LOCAL.already_handled = False
                self.code = 101
                self.close = True
                return
            raise AssertionError("the application returned without start_response")
        if not self._on_wire:
            if self._head.length is None and not self._is_bodyless():
                self._head.length = 0
            self._send(self._open())
        self._finish()

    def _stream(self, pieces: Iterable[bytes]) -> None:
        minimum = -1
        held = bytearray()
        for piece in pieces:
            data = piece if type(piece) is bytes else _octets(piece)
            if not data:
                continue
            if minimum < 0:  # an application may set it up to its first piece
                minimum = self.environ.get("eventlet.minimum_write_chunk_size", 0)
            if held or len(data) < minimum:
                held += data
                if len(held) < minimum:
                    continue
                data = bytes(held)
                held.clear()
            self._emit(data)
            if self._silent:
                break
        if held:
            self._emit(bytes(held))

    def _emit(self, data: bytes) -> None:
        if type(data) is not bytes:
            data = _octets(data)
        prefix = b""
        if not self._on_wire:
            if self._head is None:
                raise AssertionError("the application sent octets before start_response")
            prefix = self._open()
        if self._silent or not data:
            if prefix:
                self._send(prefix)
            return
        if self._left is not None:
            if len(data) > self._left:
                LOG.error("%s: the application sent more than its Content-Length; the rest is dropped", self.request_id)
                data = data[: self._left]
                self.close = True
            self._left -= len(data)
        elif self._chunked:
            data = chunk(data)
        if prefix and len(data) > TOGETHER:
            self._send(prefix)
            prefix = b""
        self._send(prefix + data if prefix else data)

    def _finish(self) -> None:
        if self._silent:
            return
        if self._chunked:
            self._send(LAST_CHUNK)
        if self._left:
            LOG.error("%s: the application sent %d octets less than its Content-Length", self.request_id, self._left)
            self._abort()

    def _is_bodyless(self) -> bool:
        """RFC 9112 §6.3: no content whatever the fields say."""
        return self.request.method == "HEAD" or (self._head is not None and self._head.code in BODYLESS)

    def _open(self) -> bytes:
        """Decide on framing and keep-alive, as late as possible, and write the head."""
        head = self._head
        request = self.request
        conn = self.conn
        service = conn.service
        assert head is not None  # noqa: S101 -- the callers' condition, told to mypy
        close = self.close or head.close or not request.keep_alive or service.shared.closing
        given = self._input
        if not given.complete:
            if given.failure is not None:
                close = True
                if head.code >= 500:
                    raise given.failure  # it was caught, and taken for a fault of the application's: it is the client's
            given.answered = True
            close = close or given.should_send_hundred_continue or given.left > DISCARD
        self._on_wire = True
        self._silent = self._is_bodyless()
        self.code = head.code
        data = head.data
        if not head.dated:
            data += service.shared.date.field
        if head.length is not None:
            if head.code != 204:  # RFC 9110 §8.6
                data += _lengths.get(head.length) or _length_field(head.length)
            self._left = head.length
        elif not self._silent:
            if request.minor == 1:
                self._chunked = True
                data += b"Transfer-Encoding: chunked\r\n"
            else:
                close = True
        if close:
            self.close = True
            return data + b"Connection: close\r\n\r\n"
        if request.minor == 0:
            return data + b"Connection: keep-alive\r\n\r\n"
        return data + b"\r\n"

    def _send(self, data: bytes) -> None:
        self.conn.send(data)
        self.sent += len(data)
        self.conn.moved()

    def _sendfile(self, wrapper: FileWrapper) -> bool:
        """Send a file without reading it; False: it has to be read like any iterable."""
        span = wrapper.span()
        head = self._head
        if span is None or head is None or self._on_wire or self.conn.secure:
            return False
        fd, offset, size = span
        if head.length is None:
            head.length = size
        count = min(size, head.length)
        self._send(self._open())
        if not self._silent:
            done = self.conn.sendfile(fd, offset, count)
            self.sent += done
            self._left = head.length - done
        self._finish()
        return True

    def _failed(self, error: BaseException) -> None:
        """The application, or the client, has not let the answer become complete."""
        self.close = True
        answer = self._explain(error)
        if self._on_wire or self.conn.taken or answer is None:
            if self._on_wire:
                self._abort()
            else:
                self.conn.end()
            return
        self.code = answer.status
        data = refusal.response(answer, self.request_id, self.conn.service.shared.date.field[6:-2])
        if self.request.method == "HEAD":
            data = data[: data.index(b"\r\n\r\n") + 4]
        try:
            self._send(data)
        except OSError:
            self.conn.end()

    def _explain(self, error: BaseException) -> refusal.Refusal | None:
        """Log what happened, once; return what to say to the client, None where there is nobody to say it to."""
        line = self.request.line.decode("latin-1")
        failure = self._input.failure
        if isinstance(error, RequestTimeout):
            age = (time.monotonic_ns() - self.started) / 1e9
            LOG.warning("%s: %s ended by request_timeout after %.1f s", self.request_id, line, age)
            return refusal.Refusal(503, "the request took too long")
        if isinstance(error, Cut):
            return None
        if isinstance(error, ClientGone) or isinstance(failure, ClientGone):
            LOG.info("%s: %s: the client has left", self.request_id, line)
            # It may have ended only its own side.
            return refusal.Refusal(400, "the request ended before its content was complete") if failure else None
        if isinstance(error, ClientSlow) or isinstance(failure, ClientSlow):
            LOG.info("%s: %s: %s", self.request_id, line, failure or error)
            return (
                refusal.Refusal(408, "the content of the request did not come in time") if failure is not None else None
            )
        broken = error if isinstance(error, refusal.Refusal) else failure
        if isinstance(broken, refusal.Refusal):
            LOG.info("%s: %s: refused: %s", self.request_id, line, broken)
            self.conn.service.row.refuse(broken.status)
            return broken
        if isinstance(error, greenlet.GreenletExit):
            LOG.error("%s: %s: the application killed its own green thread", self.request_id, line)
        elif isinstance(error, ResponseError):
            LOG.error("%s: %s: the application gave %s", self.request_id, line, error, exc_info=error)
        else:
            LOG.error("%s: %s failed", self.request_id, line, exc_info=error)
        return refusal.Refusal(500, "the server has failed to answer; its log tells why under the request id")

    def _abort(self) -> None:
        """End an answer that has begun and is not complete."""
        self.close = True
        if self._chunked or self._left is not None or self._silent:
            self.conn.end()
        else:
            self.conn.abort()

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


def _octets(data: object) -> bytes:
    """Take what is nearly bytes, as eventlet does; anything else is the application's error."""
    if isinstance(data, str):
        return data.encode("ascii")
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"the application's iterable gave {type(data).__name__} instead of bytes")
