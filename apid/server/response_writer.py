"""An answer on its way to the client: the framing of what an application returns, and how late each thing is decided.

The one rule behind it: what leaves here is one complete response, or the connection ends in a way that the client can tell from
a complete one (promise S3). How a head is written is response_head.py's, how octets travel stream.py's, what a request is and how
it ends request_handler.py's.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from types import TracebackType

from apid.loggers import logger
from apid.server.context import Context
from apid.server.engines.base import Outcome
from apid.server.file_wrapper import FileWrapper
from apid.server.interruptions import ClientGone, RequestTimeout
from apid.server.protocol import response_head
from apid.server.protocol.request_head import Head
from apid.server.protocol.response_head import LAST_CHUNK, ResponseHead, chunk
from apid.server.stream import Stream
from apid.server.wsgi_input import WsgiInput

LOG = logger(__name__)

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

TOGETHER = 65536
"""Octets up to which pieces are joined to be sent at once; copying more costs more than a system call."""

BODYLESS = frozenset({204, 304})
"""Statuses of answers without content (RFC 9112 §6.3)."""

DISCARD = 262144
"""Octets of content that the application did not want that are read to keep the connection."""

_SMALL = 4096
_lengths: dict[int, bytes] = {}


def _length_field(length: int) -> bytes:
    """Write Content-Length, and keep those of small answers: there are few, and formatting costs as much as a header."""
    field = b"Content-Length: %d\r\n" % length
    if length < _SMALL:
        _lengths[length] = field
    return field


class ResponseWriter:
    """One answer.

    Attributes:
        request: the head of what is answered. environ: the application's.
        number: of the request.
        code: the status sent, or 0.
        sent: octets sent, head and framing included.
        begun: the head has been sent.
        close: whether the connection ends with it.
        ending: how it ends, where the answer could not become complete.
        failed: the application has sent less than it had declared.
    """

    # Defaults of the class on purpose, for what most answers neither read nor set.
    _claim: list[None] | None = None
    _chunked = False
    _silent = False
    code = 0
    sent = 0
    _left: int | None = None  # of a declared Content-Length
    ending: Outcome | None = None
    failed = False
    _length: int | None = None  # that the head declares

    def __init__(self, context: Context, stream: Stream, request: Head, given: WsgiInput, number: int) -> None:
        self._context = context
        self._stream = stream
        self._input = given
        self.request = request
        self.number = number
        self._head: ResponseHead | None = None
        self.begun = False
        if context.claims:
            self._claim = [None]
        self.close = False

    def claim(self) -> bool:
        """Take the right to send the head, which only one thread gets; returns whether this one has it."""
        try:
            self._claim.pop()  # type: ignore[union-attr]  # where nothing can be thrown into a request there is a list
        except IndexError:
            return False
        return True

    @property
    def request_id(self) -> str:
        """`req-…`, or what the application has put in its place, if that fits into a field and a log line."""
        given = self.request.environ.get("apid.request_id")
        if isinstance(given, str) and given and given.isascii() and given.isprintable():
            return given
        return self._context.accounts.id_of(self.number)

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
                if self.begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no circle through the traceback
        elif self._head is not None:
            raise AssertionError("start_response was called a second time without exc_info")
        self._head = head = response_head.read(status, headers)
        self._length = head.length
        return self.write

    def write(self, data: bytes) -> None:
        """Send what it is given before it returns (PEP 3333)."""
        self._emit(data)

    def deliver(self, result: Iterable[bytes]) -> None:
        """Send what the application has returned.

        Raises:
            ClientGone, ClientSlow: from the stream.
            ResponseError, AssertionError, TypeError: the application has broken the rules.
        """
        if (
            type(result) is list
            and self._head is not None
            and not self.begun
            and not self._stream.taken
            and self._deliver_list(result, self._head)
        ):
            return
        try:
            self._deliver(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _deliver_list(self, result: list[bytes], head: ResponseHead) -> bool:
        """A complete answer: its length is known, and one send is enough for a small one. False: it is none."""
        body = result[0] if len(result) == 1 else b"".join(map(_octets, result))
        if type(body) is not bytes:
            body = _octets(body)
        bodyless = self._is_bodyless(head)
        if self._length is None:
            # What a HEAD leaves out is not always nothing: then nothing is said of its length (RFC 9110 §8.6).
            if body or not bodyless:
                self._length = len(body)
        elif self._length != len(body) and not bodyless:
            return False
        data = self._open(head, silent=bodyless)
        self._left = None
        if bodyless:
            self._send(data)
        elif len(body) <= TOGETHER:
            data += body
            self._stream.send(data)
            self.sent = len(data)
        else:
            self._send(data)
            self._send(body)
        return True

    def _deliver(self, result: Iterable[bytes]) -> None:
        """Anything else: piece by piece, each sent as it comes."""
        if type(result) is FileWrapper and self._head is not None:
            if not self.begun:
                self._sendfile(result)
            length = self._left if self.begun else self._length
            result = result if length is None else result.pieces(length)
        if not self._stream.taken:
            self._pieces(result)
        if self._stream.taken:
            self.code = 101
            self.close = True
            return
        if self._head is None:
            raise AssertionError("the application returned without start_response")
        if not self.begun:
            silent = self._is_bodyless(self._head)
            if self._length is None and not silent:
                self._length = 0
            self._send(self._open(self._head, silent=silent))
        self._finish()

    def _pieces(self, pieces: Iterable[bytes]) -> None:
        minimum = -1
        held = bytearray()
        for piece in pieces:
            data = piece if type(piece) is bytes else _octets(piece)
            if not data:
                self._stream.passed()
                continue
            if minimum < 0:  # an application may set it up to its first piece
                minimum = self.request.environ.get("eventlet.minimum_write_chunk_size", 0)
            if held or len(data) < minimum:
                held += data
                if len(held) < minimum:
                    self._stream.passed()
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
        if not self.begun:
            if self._head is None:
                raise AssertionError("the application sent octets before start_response")
            prefix = self._open(self._head, silent=self._is_bodyless(self._head))
        if self._silent or not data:
            if prefix:
                self._send(prefix)
            else:
                self._stream.passed()
            return
        if self._left is not None:
            if len(data) > self._left:
                LOG.error("%s: the application sent more than its Content-Length; the rest is dropped", self.request_id)
                data = data[: self._left]
                self.close = self._silent = True
            self._left -= len(data)
        elif self._chunked:
            data = chunk(data)
        if not data and not prefix:
            return
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
            self.failed = True
            self.abort()

    def _is_bodyless(self, head: ResponseHead) -> bool:
        """RFC 9112 §6.3: no content whatever the fields say."""
        return self.request.method == "HEAD" or head.code in BODYLESS

    def _open(self, head: ResponseHead, *, silent: bool) -> bytes:
        """Decide on framing and keep-alive, as late as possible, and write the head; `silent`: nothing follows it."""
        request = self.request
        accounts = self._context.accounts
        close = self.close or head.close or not request.keep_alive or accounts.closing
        given = self._input
        if not given.complete:
            if given.failure is not None:
                close = True
                if head.code >= 500:
                    raise given.failure  # it was caught, and taken for a fault of the application's: it is the client's
            given.answered = True
            close = close or given.should_send_hundred_continue or given.left > DISCARD
        if self._claim is not None and not self.claim():
            raise RequestTimeout
        self.begun = True
        self._silent = silent
        self.code = head.code
        data = head.data
        if not head.dated:
            data += accounts.date.field
        if self._length is not None:
            if head.code != 204:  # RFC 9110 §8.6
                data += _lengths.get(self._length) or _length_field(self._length)
            self._left = self._length
        elif not silent:
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
        if self._stream.taken:
            return  # what an application says to its server after it has taken the socket over is not for the client
        self._stream.send(data)
        self.sent += len(data)
        self._stream.moved()

    def _sendfile(self, wrapper: FileWrapper) -> None:
        """Send of a file what goes without reading it; the rest, if there is any, is read like any iterable."""
        span = None if self._stream.secure else wrapper.span()
        head = self._head
        if span is None or head is None:
            return
        fd, offset, size = span
        if self._length is None:
            self._length = size
        self._send(self._open(head, silent=self._is_bodyless(head)))
        if not self._silent:
            self._left = self._length
            while sent := self._stream.sendfile(fd, offset, self._left):
                offset += sent
                self.sent += sent
                self._left -= sent
                self._stream.moved()
            wrapper.filelike.seek(offset)

    def abort(self) -> None:
        """End an answer that has begun and is not complete."""
        self.close = True
        self.ending = Outcome.CLOSE if self._chunked or self._left is not None or self._silent else Outcome.RESET

    def explain(self, data: bytes, code: int) -> None:
        """Send an answer of ours in place of the application's, which has not begun.

        Raises:
            OSError: the client is gone, or does not read.
        """
        self.close = True
        if self._claim is not None and not self.claim():
            raise ClientGone(errno.ECONNRESET, "it has been answered already")
        self._send(data[: data.index(b"\r\n\r\n") + 4] if self.request.method == "HEAD" else data)
        self.code = code


def _octets(data: object) -> bytes:
    """Take what is nearly bytes, as eventlet does; anything else is the application's error."""
    if isinstance(data, str):
        return data.encode("ascii")
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"the application's iterable gave {type(data).__name__} instead of bytes")
