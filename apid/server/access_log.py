"""The access log: one line a request, buffered, written whole.

Several workers append to one file, by apid.posix.appender. What is in the buffer is written after at most `FLUSH` seconds, at
`BUFFER` octets, at reopen and at the end. Lines that cannot be written are lost, and the daemon's log says how many.

A line cannot be forged from a request: what comes from a client is escaped (control characters, quotes, backslashes).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from apid.conf.settings import Http
from apid.errors import ConfigError
from apid.loggers import logger
from apid.posix.appender import Appender
from apid.server.protocol.response_head import MONTHS

LOG = logger(__name__)

FLUSH = 0.5
BUFFER = 60000

TELL = 10.0
"""Seconds at least between two lines of the daemon's log that say that lines are lost here, and between two that they were."""

STDOUT = 1

DEFAULT = (
    '%(client_ip)s - %(user)s [%(date_time)s] "%(request_line)s"'
    " %(status_code)s %(body_length)s %(wall_seconds).6f %(request_id)s"
)


_FIELD = re.compile(r"%\((\w+)\)([#0\- +]*\d*(?:\.\d+)?[a-zA-Z])|(%%)|%")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\\u2028\u2029\ud800-\udfff]')


def escape(text: str) -> str:
    r"""Make a client's text safe within quotes on one line.

    >>> escape('a"b\r\n')
    'a\\x22b\\x0d\\x0a'
    """
    return _UNSAFE.sub(_escape, text) if _UNSAFE.search(text) else text


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class Entry(Protocol):
    """A request that is over.

    Attributes:
        environ: the application's by now.
        code: the status sent, or 0. sent, received: octets. wall_us: microseconds that it took.
        outcome: `complete`, or what kept the answer from being so.
        listener: name.
    """

    environ: Any
    outcome: str

    @property
    def wall_us(self) -> int:
        """Microseconds."""

    @property
    def code(self) -> int:
        """The status."""

    @property
    def sent(self) -> int:
        """Octets sent."""

    @property
    def request(self) -> Any:
        """Its head: `line` and `method`."""

    @property
    def received(self) -> int:
        """Octets received."""

    @property
    def request_id(self) -> str:
        """`req-…`."""

    @property
    def listener(self) -> str:
        """Name of the listener."""


class _Clock:
    """The date_time field, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def now(self, _: Entry) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            moment = time.localtime(second)
            month = MONTHS[moment.tm_mon * 3 - 3 :][:3]  # strftime's is the locale's, which an application may set
            self._text = time.strftime(f"%d/{month}/%Y %H:%M:%S", moment)
        return self._text


def _environ(key: str, absent: str = "-") -> Callable[[Entry], str]:
    """Read from the environ what is still there: it is the application's by now, which may have put anything in it."""
    return lambda exchange: escape(str(exchange.environ.get(key) or absent))


_client = _environ("REMOTE_ADDR", "unix")


def _headers(exchange: Entry) -> str:
    forwarded = str(exchange.environ.get("HTTP_X_FORWARDED_FOR", "")).replace(" ", "")
    client = _client(exchange)
    return f"{escape(forwarded)},{client}" if forwarded else client


FIELDS: dict[str, Callable[[Any], object]] = {
    "client_ip": _client,
    "client_port": _environ("REMOTE_PORT", ""),
    "forwarded_ip": _headers,
    "date_time": _Clock().now,
    "request_line": lambda x: escape(x.request.line.decode("latin-1")),
    "method": lambda x: escape(x.request.method),
    "path": _environ("RAW_PATH_INFO"),
    "query": _environ("QUERY_STRING", ""),
    "protocol": _environ("SERVER_PROTOCOL"),
    "host": _environ("HTTP_HOST"),
    "referer": _environ("HTTP_REFERER"),
    "user_agent": _environ("HTTP_USER_AGENT"),
    "status_code": lambda x: x.code,
    "body_length": lambda x: x.sent,
    "bytes_out": lambda x: x.sent,
    "bytes_in": lambda x: x.received,
    "outcome": lambda x: x.outcome,
    "wall_seconds": lambda x: x.wall_us / 1e6,
    "request_id": lambda x: escape(x.request_id),
    "trace_id": _environ("apid.trace_id"),
    "user": _environ("HTTP_X_USER_ID"),
    "project": _environ("HTTP_X_PROJECT_ID"),
    "listener": lambda x: x.listener,
    "pid": lambda _: os.getpid(),
}
"""Names for access_log_format. `user` and `project` are what keystonemiddleware (or noauth) put into the environ, not what a
client sent: those filters remove a client's own."""

JSON_FIELDS = (
    "client_ip", "method", "path", "query", "protocol", "status_code", "bytes_in", "bytes_out", "wall_seconds",
    "outcome", "request_id", "user", "project", "user_agent", "listener", "pid",
)  # fmt: skip


def check(settings: Http) -> None:
    """Raise what opening the log would raise, for a trial: a missing file stays missing.

    Raises:
        ConfigError: as `AccessLog`.
    """
    target = settings.access_log
    if target == "off":
        return
    _format(settings)
    if target == "-":
        return
    with _opening(settings):
        try:
            Path(target).stat()
        except FileNotFoundError:
            beside = f"{Path(target).resolve().parent}/.apid-{secrets.token_hex(8)}"
            Appender(beside).close()
            os.unlink(beside)
        else:
            Appender(target).close()


def formatter(spec: str) -> Callable[[Any], str]:
    """Compile a format of %(name)s fields, `json`, or the empty one.

    Raises:
        ValueError: an unknown field; the text names it.
    """
    if spec == "json":
        getters = [(name, FIELDS[name]) for name in JSON_FIELDS]

        def as_json(exchange: Any) -> str:
            told = {name: get(exchange) for name, get in getters}
            return json.dumps({"time": time.time(), **told}, separators=(",", ":"))

        return as_json
    wanted: list[Callable[[Any], object]] = []

    def take(found: re.Match[str]) -> str:
        if found[3]:
            return "%%"
        if found[1] not in FIELDS:
            raise ValueError(f"unknown field {found[0]!r}; there are {', '.join(sorted(FIELDS))}")
        wanted.append(FIELDS[found[1]])
        return f"%{found[2]}"

    plain = _FIELD.sub(take, spec or DEFAULT)
    return lambda exchange: plain % tuple([get(exchange) for get in wanted])


def _format(settings: Http) -> Callable[[Any], str]:
    try:
        return formatter(settings.access_log_format)
    except ValueError as error:
        where = settings.where.get("access_log_format", "access_log_format")
        raise ConfigError(f"{where}: {error}") from None


@contextlib.contextmanager
def _opening(settings: Http) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = settings.where.get("access_log", "access_log")
        reason = f"{settings.access_log} cannot be opened by user {os.geteuid()}: {error.strerror}"
        raise ConfigError(f"{where}: {reason}") from error


class Refused:
    """A refusal in the shape of an entry."""

    class request:  # noqa: N801 -- stands where an entry has its head
        line = b"-"
        method = "-"

    wall_us = 0
    received = 0
    outcome = "refused"

    def __init__(self, address: tuple[str, str], listener: str, code: int, request_id: str, sent: int) -> None:
        self.listener = listener
        self.code = code
        self.sent = sent
        self.request_id = request_id
        self.environ = {
            "REMOTE_ADDR": address[0],
            "REMOTE_PORT": address[1],
            "RAW_PATH_INFO": "-",
            "QUERY_STRING": "",
            "SERVER_PROTOCOL": "-",
        }


class AccessLog:
    """One worker's end of the access log."""

    def __init__(
        self,
        settings: Http,
        schedule: Callable[[float, Callable[[], None]], object],
        count: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Open the log.

        Args:
            settings: its target and format.
            schedule: calls something after some seconds.
            count: is called with the number of lines that were lost just now.

        Raises:
            ConfigError: the file cannot be opened, or the format is wrong.
        """
        self._settings = settings
        self._target = target = settings.access_log
        self._format = _format(settings)
        self._schedule = schedule
        self._count = count
        self._lines: list[str] = []
        self._size = 0
        self._waiting = False
        self._lost = 0
        self._failing_told = self._healed_told = -TELL
        with _opening(settings):
            self._out = Appender(STDOUT if target == "-" else target, 0o644)

    def request(self, exchange: Entry) -> None:
        """Note a request that is over."""
        try:
            line = self._format(exchange)
        except Exception as error:  # noqa: BLE001 -- such as %(host)d; or a str() of the application's that fails
            line = f"access_log_format: {error}"
        self.line(line)

    def line(self, line: str) -> None:
        """Note a line."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BUFFER:
            self.flush()
        elif not self._waiting:
            self._waiting = True
            self._schedule(FLUSH, self._due)

    def _due(self) -> None:
        self._waiting = False
        self.flush()

    def flush(self) -> None:
        """Write what is in the buffer."""
        if not self._lines:
            return
        data = ("\n".join(self._lines) + "\n").encode("utf-8", "backslashreplace")
        self._lines.clear()
        self._size = 0
        lost = self._out.append(data.splitlines(keepends=True))
        if lost:
            self._count(lost)
        if lost or self._lost:
            self._tell(lost)

    def _tell(self, lost: int) -> None:
        """Say in the daemon's log what is lost, rarely while it lasts, and how much it was in all once it is over."""
        now = time.monotonic()
        self._lost += lost
        if lost and now >= self._failing_told + TELL:
            self._failing_told = now
            LOG.error("access_log %s: lines are lost: %s; %d so far", self._target, self._out.reason, self._lost)
        elif not lost and now >= self._healed_told + TELL:
            self._healed_told = now
            LOG.error("access_log %s: %d lines were lost: %s", self._target, self._lost, self._out.reason)
            self._lost = 0

    def reopen(self) -> None:
        """Write what is buffered to the old file and go on with the one that now has the name.

        Raises:
            ConfigError: it cannot be opened; the old one stays.
        """
        self.flush()
        with _opening(self._settings):
            self._out.reopen()

    def forget(self) -> None:
        """In a forked child: drop the buffer, which the worker will write, and close the descriptor."""
        self._lines.clear()
        self._out.close()

    def close(self) -> None:
        """Write what is buffered; the log is over."""
        self.flush()
        if self._lost:
            self._healed_told = -TELL
            self._tell(0)
        self._out.close()
