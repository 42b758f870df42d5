"""The daemon's own log: handlers, formats, reopening. Parent and workers use it; the toolkit never does.

A line is `2026-11-20 14:07:46.123 INFO apid.parent worker=2 gen=7 pid=4711 [req-…] message`. The triple is the identity of
the process that writes it, or (in the parent) of the worker it is about: `LOG.info("…", extra=about(slot, generation, pid))`.
A text of several lines, such as a stack, goes into `extra={"block": text}` and follows its line, indented, like a traceback.

Every record is one write(2) to a descriptor opened with O_APPEND, so that lines of several processes never mix. Control
characters in messages are escaped: what a client sends can neither begin a line nor colour a terminal.

Plain stdlib, and made anew by `setup` in each worker, so that monkey-patching finds nothing of the parent's to trip over.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import logging.config
import os
import posix
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from apid.conf.settings import Log
from apid.errors import ConfigError
from apid.posix.journal import Journal

STDERR = 2

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    9: "\t",
    10: "\\n",
    13: "\\r",
    0x2028: "\\u2028",
}
_OWNED = "apid_owned"


class _RequestId:
    """Who knows the id of the request being served; the engine registers itself in a worker."""

    source: Callable[[], str | None] | None = None


def set_request_id_source(source: Callable[[], str | None] | None) -> None:
    """Ask `source` for the request id of each line; None stops asking."""
    _RequestId.source = source


def about(slot: int, generation: int, pid: int) -> dict[str, str]:
    """Return the `extra` of a parent's line about a worker."""
    return {"identity": identity(slot, generation, pid)}


def identity(slot: int, generation: int, pid: int) -> str:
    """Return the triple that stands in every line of a worker."""
    return f"worker={slot} gen={generation} pid={pid}"


def setup(settings: Log, *, identity: str, owner: tuple[int, int] | None = None) -> None:
    """Set up the root logger; whatever an earlier call set up is closed.

    Args:
        settings: where to and how.
        identity: what lines of this process carry: `pid=4700`, or the triple of a worker.
        owner: (uid, gid) that a log file made here belongs to, so that unprivileged workers can reopen it; only root may.

    Raises:
        ConfigError: a file cannot be opened, or there is no journal: the old handlers stay. Or log_config_append is wrong: its
            reader closes what there was before it looks, so that is to be tried in a process that can be spared.
    """
    root = logging.getLogger()
    context = _Context(identity)
    before = [handler for handler in root.handlers if hasattr(handler, _OWNED)]
    if settings.log_config_append is not None:
        _file_config(settings.log_config_append)
    else:
        root.addHandler(_handler(settings, owner))
        root.setLevel(logging.DEBUG if settings.debug else logging.INFO)
    for handler in before:
        root.removeHandler(handler)
        handler.close()
    for handler in root.handlers:
        setattr(handler, _OWNED, True)
    for handler in _all_handlers():
        for old in [each for each in handler.filters if isinstance(each, _Context)]:
            handler.removeFilter(old)
        handler.addFilter(context)


def reopen() -> None:
    """Open every log file anew, after logrotate has moved it away. No line is lost, whoever writes meanwhile.

    Raises:
        ConfigError: a file cannot be opened; its old descriptor stays in use. The others are done all the same.
    """
    errors = []
    for handler in _all_handlers():
        try:
            if isinstance(handler, _FileHandler):
                handler.reopen()
            elif isinstance(handler, logging.FileHandler):  # of log_config_append
                old = handler.setStream(handler._open())  # noqa: SLF001 - documented, and the only way to open its file
                if old is not None:
                    old.close()
        except OSError as error:
            errors.append(f"the log file {error.filename} cannot be opened: {error.strerror}")
    if errors:
        raise ConfigError("; ".join(errors))


def escape(text: str) -> str:
    """Return the text with control characters as escapes, so that it is one line."""
    return text.translate(_CONTROL)


def _handler(settings: Log, owner: tuple[int, int] | None) -> logging.Handler:
    handler: logging.Handler
    if settings.use_journal:
        try:
            return _JournalHandler()
        except OSError as error:
            raise ConfigError(
                f"use_journal: the journal cannot be reached at {error.filename}: {error.strerror}"
            ) from error
    if settings.log_file is None:
        handler = _DescriptorHandler(STDERR)
    else:
        try:
            handler = _FileHandler(settings.log_file, owner)
        except OSError as error:
            raise ConfigError(f"the log file {settings.log_file} cannot be opened: {error.strerror}") from error
    handler.setFormatter(_JsonFormatter() if settings.use_json else _LineFormatter())
    return handler


def _file_config(path: str) -> None:
    try:
        logging.config.fileConfig(path, disable_existing_loggers=False, encoding="utf-8")
    except Exception as error:
        cause = error.__cause__ or error
        raise ConfigError(f"log_config_append: {path}: {type(cause).__name__}: {cause}") from error


def _all_handlers() -> Iterator[logging.Handler]:
    seen: set[int] = set()
    for logger in [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]:
        for handler in getattr(logger, "handlers", ()):
            if id(handler) not in seen:
                seen.add(id(handler))
                yield handler


class _Context(logging.Filter):
    """Gives every record the attributes `identity` and `request_id`; log_config_append's formats may use them too."""

    def __init__(self, identity: str) -> None:
        super().__init__()
        self._identity = identity

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "identity"):
            record.identity = self._identity
        if not hasattr(record, "request_id"):
            record.request_id = _RequestId.source() if _RequestId.source is not None else None
        return True


@dataclasses.dataclass(frozen=True, slots=True)
class _Parts:
    """What the formats have in common."""

    identity: str
    request_id: str
    message: str
    block: str

    @classmethod
    def of(cls, record: logging.LogRecord) -> _Parts:
        blocks = [str(getattr(record, "block", "") or "")]
        if record.exc_info:
            blocks.append(logging.Formatter().formatException(record.exc_info))
        if record.stack_info:
            blocks.append(record.stack_info)
        block = "\n".join(text.strip("\n") for text in blocks if text)
        return cls(
            getattr(record, "identity", ""), getattr(record, "request_id", None) or "", record.getMessage(), block
        )

    @property
    def fields(self) -> dict[str, int | str]:
        """`worker=2 gen=7` as a dict with ints."""
        pairs = re.findall(r"(\w+)=(\S+)", self.identity)
        return {key: int(value) if value.isdigit() else value for key, value in pairs}


class _LineFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        parts = _Parts.of(record)
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        words = [f"{moment}.{int(record.msecs):03d}", record.levelname, record.name, parts.identity]
        if parts.request_id:
            words.append(f"[{parts.request_id}]")
        line = escape(" ".join(word for word in [*words, parts.message] if word))
        return "\n".join([line, *(f"  {escape(text)}" for text in parts.block.splitlines())])


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        parts = _Parts.of(record)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
        }
        entry |= parts.fields
        if parts.request_id:
            entry["request_id"] = parts.request_id
        entry["message"] = parts.message
        if parts.block:
            entry["block"] = parts.block
        return json.dumps(entry, ensure_ascii=True)


class _DescriptorHandler(logging.Handler):
    """One write(2) a record.

    By posix.write: monkey-patching replaces os.write by one that switches green threads first, which fails in the hub and as soon
    as two of them log at a time (eventlet.green.os, unless the descriptor is a regular file).
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            data = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            if self._lost:
                data = f"{self._lost} lines of the log were lost here: nobody read it\n".encode() + data
            while data:  # once, unless a disk or a pipe is full
                data = data[posix.write(self._fd, data) :]
            self._lost = 0
        except BlockingIOError:  # a pipe that somebody made non-blocking is full; waiting would stop the whole worker
            self._lost += 1
        except Exception:  # noqa: BLE001 - logging's own rule: a log line never breaks its caller
            self.handleError(record)


class _FileHandler(_DescriptorHandler):
    def __init__(self, path: str, owner: tuple[int, int] | None) -> None:
        self._path = path
        self._owner = owner
        super().__init__(self._open())

    def reopen(self) -> None:
        """Put a new open file description under the same number: at every moment a write finds one of the two."""
        fresh = self._open()
        try:
            os.dup2(fresh, self._fd, inheritable=False)
        finally:
            os.close(fresh)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        super().close()

    def _open(self) -> int:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            if self._owner is not None and os.geteuid() == 0 and Path(self._path).is_file():
                os.fchown(fd, *self._owner)
        except BaseException:
            os.close(fd)
            raise
        return fd


class _JournalHandler(logging.Handler):
    """Records as datagrams of journald's native protocol."""

    _PRIORITY = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def __init__(self) -> None:
        super().__init__()
        self._journal = Journal()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            parts = _Parts.of(record)
            fields = {
                "MESSAGE": "\n".join(text for text in (escape(parts.message), parts.block) if text),
                "PRIORITY": str(next((number for level, number in self._PRIORITY if record.levelno >= level), 7)),
                "SYSLOG_IDENTIFIER": "apid",
                "LOGGER": record.name,
                "CODE_FILE": record.pathname,
                "CODE_LINE": str(record.lineno),
                "CODE_FUNC": record.funcName or "",
            }
            fields |= {f"APID_{key.upper()}": str(value) for key, value in parts.fields.items()}
            if parts.request_id:
                fields["APID_REQUEST_ID"] = parts.request_id
            self._journal.send(fields)
        except OSError as error:
            line = f"apid: the journal takes no lines ({error}): {escape(record.getMessage())}\n"
            posix.write(STDERR, line.encode("utf-8", "backslashreplace"))
        except Exception:  # noqa: BLE001 - logging's own rule: a log line never breaks its caller
            self.handleError(record)

    def close(self) -> None:
        self._journal.close()
        super().close()
