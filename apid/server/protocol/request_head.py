"""The head of a request: found in the received bytes, checked against RFC 9112, turned into a WSGI environ.

Here lives what lies between the first octet and the empty line: limits, framing, Host, Expect, Connection. Not here: the
pieces of grammar (grammar.py), the request line's rare forms (request_line.py), content (chunked.py), proxies' fields
(forwarded.py), sockets and deadlines (connection.py). Pure: bytes in, values out.

Theory of operation. There are two readings of the same grammar, and a test holds them together:

- The *walk* goes line by line and knows every reason to refuse, in one order: by line, then by the position of the octet, then
  by what only the whole line tells. It runs over what has arrived of an incomplete head, so that a refusal comes as soon as it
  is certain, and its position is kept, so that a head fed octet by octet costs the same as a whole one.
- The *patterns* read a complete head at once. They only ever accept; where they do not match, the walk runs and either refuses
  or allows the line-by-line building of the same values.

So the outcome depends on the octets alone, never on how the stream was cut. What several lines say together (Host, framing,
Expect) is judged when the head is complete.
"""

from __future__ import annotations

import dataclasses
import re

from apid import hosts
from apid.conf import settings
from apid.server.protocol import framing, grammar, request_line
from apid.server.protocol.error_response import Refusal
from apid.server.protocol.framing import Environ

MAX_LEADING_CRLF = 4
"""Empty lines before a request line that are ignored; RFC 9112 §2.2 asks for at least one."""

_T = grammar.TOKEN
# The ordinary request line: a path, no fragment. What does not match is left to target.parse.
_REQUEST = re.compile(
    rf"({_T}{{1,{request_line.MAX_METHOD}}}+) ((/[!\"$->@-~]*+)(?:\?([!\"$-~]*+))?) HTTP/1\.([01])\r(?=\n)"
)
# The ordinary field line: one space, a value, no whitespace around it. Every match begins where the line before ended and is
# followed by LF, so as many matches as lines means that nothing was skipped.
_ORDINARY_FIELD = re.compile(rf"\n({_T}++): ([!-~\x80-\xff][\t -~\x80-\xff]*+)(?<![\t ])\r(?=\n)")
# Any field line, with the whitespace around its value.
_FIELD = re.compile(rf"\n({_T}++):([\t -~\x80-\xff]*+)\r(?=\n)")


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How much of a head is read; all in octets without the CRLF, but for `max_headers`, a count.

    Attributes:
        max_request_line: 414 beyond.
        max_header_line: 431 beyond.
        max_headers: field lines; 431 beyond.
        max_header_size: all field lines together, each with its CRLF; 431 beyond.
    """

    max_request_line: int = 8190
    max_header_line: int = 16384
    max_headers: int = 200
    max_header_size: int = 65536

    @classmethod
    def of(cls, http: settings.Http) -> Limits:
        """Take the limits out of the settings."""
        return cls(http.max_request_line, http.max_header_line, http.max_headers, http.max_header_size)


class Head:
    """The head of one request, read.

    Attributes:
        environ: the template's copy with everything that the head says (PEP 3333).
        method: as sent.
        target: the request target as sent; `*` for OPTIONS of the whole server.
        minor: 0 or 1, of the HTTP version.
        keep_alive: whether the client lets the connection go on (RFC 9112 §9.3).
        content_length: octets of content that follow; 0 where none or chunked.
        chunked: the content is in chunks (body.ChunkDecoder).
        expect_continue: the client waits for 100 (Continue) before it sends the content (RFC 9110 §10.1.1).
        size: octets of the buffer that the head took, from its beginning: what follows is content or the next request.
        line: the request line as sent, for the scoreboard and the log.
    """

    __slots__ = (
        "chunked",
        "content_length",
        "environ",
        "expect_continue",
        "keep_alive",
        "line",
        "method",
        "minor",
        "size",
        "target",
    )

    def __init__(  # noqa: PLR0917 -- one caller, once a request; keywords would cost there
        self, environ: Environ, method: str, requested: str, minor: int, size: int, line: bytes
    ) -> None:
        self.environ = environ
        self.method = method
        self.target = requested
        self.minor = minor
        self.size = size
        self.line = line
        self.keep_alive = minor == 1
        self.content_length = 0
        self.chunked = False
        self.expect_continue = False

    def __repr__(self) -> str:
        """The request line and how the content is framed."""
        framing = "chunked" if self.chunked else str(self.content_length)
        return f"<Head {self.line!r} content={framing}>"


class Reader:
    """Reads the heads of one connection, one after the other.

    Its user keeps a buffer that begins with the first octet of a head, appends what arrives (to a bytearray, where a head does
    not come in one piece) and calls `read` until it gives a Head; then removes `Head.size` octets and what belongs to the
    content before it calls again.
    """

    __slots__ = ("_begin", "_host", "_limits", "_line", "_lines", "_section", "_seen", "_short", "_touched")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # A head that is no longer than this keeps every limit but the count of fields.
        self._short = min(limits.max_request_line, limits.max_header_line, limits.max_header_size)
        self._host = ""  # the last Host that was found valid: clients send the same one over and over
        self._reset()

    def _reset(self) -> None:
        self._touched = False
        self._begin = 0  # of the request line, after ignored empty lines
        self._line = 0  # begin of the line that the walk is in
        self._lines = 0  # lines that the walk has left behind
        self._section = 0  # begin of the first field line, once the request line is behind
        self._seen = 0  # octets that the walk has looked at

    @property
    def begun(self) -> bool:
        """Whether part of a head has been seen: empty lines alone are not one."""
        return self._seen > self._begin

    def read(self, buffer: bytes | bytearray, template: Environ) -> Head | None:
        """Read the head at the beginning of a buffer.

        Args:
            buffer: everything received since the end of the request before.
            template: what the environ holds before the head adds to it; copied, not changed. It has no REQUEST_METHOD,
                QUERY_STRING, CONTENT_* or HTTP_* of its own that shall survive.

        Returns:
            The head, or None while it is incomplete.

        Raises:
            Refusal: this stream will never be a request that is served; nothing after it may be read as one.
        """
        if not self._touched and buffer.endswith(b"\r\n\r\n") and len(buffer) <= self._short:
            # Most requests come alone and without content. If the head ended before, the lines below will not add up.
            text = str(buffer, "latin-1")
            found = _REQUEST.match(text)
            if found is not None:
                fields = _ORDINARY_FIELD.findall(text, found.end())
                if len(fields) == text.count("\n") - 2 and len(fields) <= self._limits.max_headers:
                    return self._build(text, found, fields, template, len(text))
        return self._read(buffer, template)

    def _read(self, buffer: bytes | bytearray, template: Environ) -> Head | None:
        """Read a head that is not alone in the buffer, not complete or not ordinary."""
        if self._lines == 0 and self._seen - self._begin <= 1:
            self._skip_empty_lines(buffer)
        end = buffer.find(b"\r\n\r\n", max(self._begin, self._seen - 3))
        if end < 0:
            # A CR alone may be half of an empty line, which begins no request.
            if len(buffer) - self._begin != 1 or buffer[self._begin] != 13:
                self._walk(buffer, len(buffer))
            return None
        text = str(buffer[self._begin : end + 4], "latin-1")
        found = _REQUEST.match(text)
        # One LF ends the request line's match and begins the first field's; the last one ends the head.
        lines = text.count("\n") - 2
        fields = _ORDINARY_FIELD.findall(text, found.end()) if found else []
        if found and len(fields) != lines:
            fields = [(name, value.strip(" \t")) for name, value in _FIELD.findall(text, found.end())]
        if not found or len(fields) != lines or len(text) > self._short or lines > self._limits.max_headers:
            self._walk(buffer, end + 2)
            fields = [(name, value.strip(" \t")) for name, value in map(_halves, text[:-4].split("\r\n")[1:])]
        made = self._build(text, found, fields, template, end + 4)
        if self._touched:
            self._reset()
        return made

    def _skip_empty_lines(self, buffer: bytes | bytearray) -> None:
        """RFC 9112 §2.2: an empty line before the request line is ignored, as some clients send one after a body."""
        begin = self._begin
        while buffer[begin : begin + 2] == b"\r\n":
            begin += 2
            if begin > 2 * MAX_LEADING_CRLF:
                raise Refusal(400, "empty lines instead of a request line")
        if begin > self._begin:
            self._touched = True
            self._begin = self._line = self._seen = begin

    def _build(
        self, text: str, found: re.Match[str] | None, fields: list[tuple[str, str]], template: Environ, size: int
    ) -> Head:
        """Make the head of a text whose fields are well-formed."""
        environ = template.copy()
        if found is not None:
            method, requested, path, query, digit = found.groups()
            minor = 1 if digit == "1" else 0
            authority = None
            if method == "CONNECT":
                request_line.parse(text[: found.end() - 1])
            if "%" in path:
                request_line.check_escapes(path)
        else:
            method, requested, path, query, authority, minor = request_line.parse(text[: text.index("\r\n")])
        environ["PATH_INFO"] = request_line.unescape(path) if "%" in path else path
        environ["REQUEST_METHOD"] = method
        environ["SCRIPT_NAME"] = ""
        environ["RAW_PATH_INFO"] = path
        environ["QUERY_STRING"] = query or ""
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if minor else "HTTP/1.0"
        expected = len(environ) + len(fields)
        keys = grammar.ENVIRON_KEYS
        for name, value in fields:
            environ[keys.get(name) or grammar.environ_key(name)] = value  # type: ignore[index] # None: repaired below
        if len(environ) != expected or None in environ:
            environ.pop(None, None)  # type: ignore[call-overload] # where dropped fields went
            environ.update(framing.combine(fields))
        line = text[: len(method) + len(requested) + 10].encode("latin-1")
        head = Head(environ, method, requested, minor, size, line)
        host = environ.get("HTTP_HOST")
        if host != self._host or not host:
            self._check_host(host, minor)
        if authority is not None:
            environ["HTTP_HOST"] = authority
        if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
            head.content_length, head.chunked = framing.content(environ, minor)
        if "HTTP_CONNECTION" in environ:
            head.keep_alive = framing.keeps_alive(environ, minor)
        if "HTTP_EXPECT" in environ and framing.expects_continue(environ):
            # ignored in HTTP/1.0, and where no content follows
            head.expect_continue = minor == 1 and (head.chunked or head.content_length > 0)
        return head

    def _check_host(self, host: str | None, minor: int) -> None:
        """RFC 9112 §3.2: one valid Host in HTTP/1.1; HTTP/1.0 may leave it out."""
        if host is None:
            if minor:
                raise Refusal(400, "a request of HTTP/1.1 without Host")
            return
        if not hosts.is_authority(host):
            raise Refusal(400, "the Host is not a valid host and port")
        self._host = host

    def _walk(self, buffer: bytes | bytearray, stop: int) -> None:
        """Look at the octets up to `stop` that have not been looked at, and refuse as soon as it is certain.

        Args:
            buffer: as `read` has it.
            stop: the end of what has arrived, or the end of the last field line where the head is complete.
        """
        self._touched = True
        limits = self._limits
        while self._seen < stop:
            begin = self._line
            if self._lines == 0:
                limit, over, illegal = limits.max_request_line, 414, grammar.ILLEGAL_IN_REQUEST_LINE
            else:
                left = limits.max_header_size - (begin - self._section) - 2
                limit, over, illegal = max(0, min(limits.max_header_line, left)), 431, grammar.ILLEGAL_IN_FIELD
                if self._lines > limits.max_headers and buffer[begin] not in b"\r\n":
                    raise Refusal(431, "more fields than this server reads")
            feed = buffer.find(b"\n", self._seen, stop)
            until = stop if feed < 0 else feed + 1
            # Two octets beyond the limit are looked at: the one that is too many, and the one that makes it a bare CR.
            found = illegal.search(buffer, max(begin, self._seen - 1), min(until, begin + limit + 2))
            if found is not None and found.start() - begin <= limit:
                raise Refusal(400, _illegal(found[0], self._lines))
            # A LF with no CR before it is here only where it is itself beyond the limit.
            length = until - begin - (feed >= 0)
            length -= length > 0 and buffer[begin + length - 1] == 13
            if length > limit:
                raise Refusal(
                    over, "the request line is too long" if over == 414 else "a field, or all together, is too long"
                )
            self._seen = until
            if feed < 0:
                return
            line = str(buffer[begin : feed - 1], "latin-1")
            if self._lines:
                check_field(line)
            else:
                request_line.parse(line)
                self._section = until
            self._line = until
            self._lines += 1


def _halves(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value


def _illegal(octet: bytes, lines: int) -> str:
    where = "a field" if lines else "the request line"
    if octet == b"\r":
        return f"bare CR in {where}"
    if octet == b"\n":
        return f"bare LF at the end of {where}"
    return f"an octet in {where} that is not allowed there"


def check_field(line: str) -> None:
    """Judge one complete field line, also of a trailer section; its octets are legal and its length is within the limit.

    Raises:
        Refusal: 400.
    """
    if not grammar.FIELD_LINE.fullmatch(line):
        raise Refusal(400, grammar.why_no_field(line))


def raw_fields(head: bytes) -> tuple[tuple[str, str], ...]:
    """Return the fields of a head as they were sent: eventlet's `headers_raw`."""
    lines = head.decode("latin-1").strip("\r\n").split("\r\n")[1:]
    return tuple((name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines))
