"""The daemon's own log: handlers, formats, reopening. Parent and workers use it; the toolkit never does.

A line is `2026-11-20 14:07:46.123 INFO apid.parent worker=2 gen=7 pid=4711 [req-…] message`. The triple is the identity of
the process that writes it, or (in the parent) of the worker it is about: `LOG.info("…", extra=about(slot, generation, pid))`.
A text of several lines, such as a stack, goes into `extra={"block": text}` and follows its line, indented, like a traceback.

How records are written, and what happens when they cannot be, is apid.posix.appender's. `setup` attaches handlers to both
hierarchies of loggers: the daemon's own (apid.loggers) and the standard one, which is the application's.

Plain stdlib, and set up again by `setup` in each worker, so that monkey-patching finds nothing of the parent's to trip over.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable

from apid import logconfig
from apid.conf.identity import User
from apid.conf.settings import Log
from apid.errors import ConfigError
from apid.logformats import JsonFormatter, LineFormatter, Parts, escape
from apid.loggers import HIERARCHY, Record, logger
from apid.posix.appender import Appender
from apid.posix.journal import Journal

STDERR = 2


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


def reserve(settings: Log, user: User | None) -> None:
    """Open the file that `setup` will log to, here and in the processes forked from here, which may not be able to open it.

    Args:
        settings: as for `setup`.
        user: the workers' user; see apid.posix.logfile.

    Raises:
        ConfigError: it cannot be opened. If it is the file in use, that stays open instead, and the log says why.
    """
    release()
    target = settings.log_file
    if target is None or settings.use_journal or settings.log_config_append is not None:
        return
    try:
        HIERARCHY.reserved = Appender(target, user=user)
    except OSError as error:
        trouble = f"the log file {target} cannot be opened: {error.strerror}"
        if _in_use(target) is None:
            raise ConfigError(trouble) from error
        logger("apid.log").error("%s; the file that is open stays in use", trouble)


def release() -> None:
    """Close what `reserve` has opened, unless `setup` has taken it."""
    reserved, HIERARCHY.reserved = HIERARCHY.reserved, None
    if reserved is not None:
        reserved.close()


def setup(settings: Log, *, identity: str, user: User | None = None) -> None:
    """Set up the daemon's loggers and the root logger; whatever an earlier call set up is closed.

    Args:
        settings: where to and how.
        identity: what lines of this process carry: `pid=4700`, or the triple of a worker.
        user: in the parent, the workers' user, as whom files are opened (apid.posix.logfile). None in a worker.

    Raises:
        ConfigError: a file cannot be opened, or there is no journal: the old handlers stay. Or log_config_append is wrong: its
            reader closes what there was before it looks, so that is to be tried in a process that can be spared.
    """
    before = HIERARCHY.installed
    if settings.log_config_append is not None:
        _file_config(settings.log_config, settings.log_config_append, user)
        _mirror()
        logconfig.guard(HIERARCHY.installed, user)
    else:
        handlers = _handlers(settings, user, before)
        level = logging.DEBUG if settings.debug else logging.INFO
        _clear()
        for root, handler in zip((HIERARCHY.root, logging.getLogger()), handlers, strict=True):
            root.addHandler(handler)
            root.setLevel(level)
        HIERARCHY.installed = handlers
    used = {id(getattr(handler, "out", None)) for handler in HIERARCHY.installed}
    for old in before:
        if old not in HIERARCHY.installed:
            for each in _standard():
                each.removeHandler(old)
            if id(getattr(old, "out", None)) not in used:
                old.close()
    for handler in HIERARCHY.installed:
        for filter_ in [each for each in handler.filters if isinstance(each, _Context)]:
            handler.removeFilter(filter_)
        handler.addFilter(_Context(identity))
    release()


def identify(identity: str) -> None:
    """Let lines carry another identity from now on; handlers, which the application may have set up since, stay."""
    for handler in HIERARCHY.installed:
        for filter_ in handler.filters:
            if isinstance(filter_, _Context):
                filter_.identity = identity


def reopen() -> None:
    """Reopen every log file after logrotate has moved it away. No line is lost, whoever writes meanwhile.

    Raises:
        ConfigError: a file cannot be opened; its old descriptor stays in use. The others are done all the same.
    """
    errors = []
    for target in {id(each): each for each in map(_to_reopen, _all_handlers())}.values():
        try:
            if isinstance(target, Appender):
                target.reopen()
            elif isinstance(target, logging.FileHandler):  # of log_config_append, or the application's
                logconfig.reopen(target)
        except OSError as error:
            path = target.target if isinstance(target, Appender) else getattr(target, "baseFilename", "")
            errors.append(f"the log file {path} cannot be opened: {error.strerror}")
    if errors:
        raise ConfigError("; ".join(errors))


def _handlers(settings: Log, user: User | None, before: Iterable[logging.Handler]) -> list[logging.Handler]:
    """Make two handlers with one output: the daemon's, and one that the application may change."""
    if settings.use_journal:
        try:
            # A worker that takes a dead one's place while journald restarts goes on without it.
            journal = Journal(probe=not any(isinstance(old, _JournalHandler) for old in before))
        except OSError as error:
            raise ConfigError(
                f"use_journal: the journal cannot be reached at {error.filename}: {error.strerror}"
            ) from error
        instead = Appender(STDERR)
        return [_JournalHandler(journal, instead), _JournalHandler(journal, instead)]
    target = STDERR if settings.log_file is None else settings.log_file
    out = HIERARCHY.reserved
    if out is not None and out.target == target:
        HIERARCHY.reserved = None
    else:  # a worker uses what it inherits: it may not be able to open it, where the directory is root's
        out = _in_use(target)
    if out is not None:
        out.free()
    try:
        out = out or Appender(target, user=user)
    except OSError as error:
        raise ConfigError(f"the log file {target} cannot be opened: {error.strerror}") from error
    formatter = JsonFormatter() if settings.use_json else LineFormatter()
    return [_Handler(out, formatter), _Handler(out, formatter)]


def _in_use(target: str | int) -> Appender | None:
    """The open output of that target."""
    outs = [old.out for old in HIERARCHY.installed if isinstance(old, _Handler) and old.out.target == target]
    return outs[0] if outs and not outs[0].closed else None


def _file_config(text: str, path: str, user: User | None) -> None:
    try:
        logconfig.install(text, path, user)
    except Exception as error:
        cause = error.__cause__ or error
        raise ConfigError(f"log_config_append: {path}: {type(cause).__name__}: {cause}") from error


def _clear() -> None:
    for each in HIERARCHY.loggers():
        each.handlers.clear()
        each.propagate = True
        each.setLevel(logging.NOTSET)


def _mirror() -> None:
    """Give the daemon's loggers the levels and handlers that log_config_append has given to the standard ones."""
    _clear()
    for theirs in _standard():
        if theirs.name.partition(".")[0] in ("root", "apid"):
            ours = logger(theirs.name) if theirs.name != "root" else HIERARCHY.root
            ours.handlers[:] = theirs.handlers
            ours.propagate = theirs.propagate
            ours.setLevel(theirs.level)
    HIERARCHY.installed = _all_handlers()


def _standard() -> list[logging.Logger]:
    known = list(logging.Logger.manager.loggerDict.values())
    return [logging.getLogger(), *(each for each in known if isinstance(each, logging.Logger))]


def _all_handlers() -> list[logging.Handler]:
    found = [each.handlers for each in (*_standard(), *HIERARCHY.loggers())]
    return list({id(handler): handler for handlers in found for handler in handlers}.values())


def _to_reopen(handler: logging.Handler) -> Appender | logging.Handler:
    return handler.out if isinstance(handler, _Handler | _JournalHandler) else handler


class _Context(logging.Filter):
    """Gives every record the attributes `identity` and `request_id`; log_config_append's formats may use them too."""

    def __init__(self, identity: str) -> None:
        super().__init__()
        self.identity = identity

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "identity"):
            record.identity = self.identity
        if not hasattr(record, "request_id"):
            record.request_id = _RequestId.source() if _RequestId.source is not None else None
        return True


class _Unlocked(logging.Handler):
    """A handler whose output needs no lock of logging's.

    After monkey-patching that lock is green: a native thread that takes it leaves everybody waiting (eventlet cannot switch to
    another thread), and the hub, which logs too, must not wait.
    """

    def createLock(self) -> None:  # noqa: N802 - logging's name
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Format and write the record; 3.12 and later: filters may replace it."""
        found: bool | logging.LogRecord = self.filter(record)
        if found:
            self.emit(found if isinstance(found, logging.LogRecord) else record)
        return bool(found)


class _Handler(_Unlocked):
    """Lines of text or JSON, to a file or the standard error."""

    def __init__(self, out: Appender, formatter: logging.Formatter) -> None:
        super().__init__()
        self.out = out
        self.setFormatter(formatter)
        self._own = formatter  # the application may set another one

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - logging's own rule: a log line never breaks its caller
            text = self._own.format(_unformatted(record, self.filters))
        self.out.append([_octets(text)], self._notice)

    def close(self) -> None:
        """Close the output, which the next record opens again: dictConfig closes handlers that stay attached."""
        self.out.close()
        super().close()

    def _notice(self, lost: int, reason: str) -> bytes:
        text = "%d lines of the log were lost here: %s"
        record = Record("apid.log", logging.WARNING, __file__, 0, text, (lost, reason), None)
        for each in self.filters:
            if isinstance(each, _Context):
                each.filter(record)
        record.request_id = None
        return _octets(self._own.format(record))


def _octets(text: str) -> bytes:
    return (text + "\n").encode("utf-8", "backslashreplace")


def _unformatted(record: logging.LogRecord, filters: Iterable[object]) -> logging.LogRecord:
    """Make the record that stands for one which cannot be formatted, such as `LOG.info("%d", "x")`."""
    what = record.msg if isinstance(record.msg, str) else type(record.msg)
    text, where = "a line of the log cannot be formatted: %.200r", (record.pathname, record.lineno)
    made = Record(record.name, logging.ERROR, *where, text, (what,), sys.exc_info())
    for each in filters:
        if isinstance(each, _Context):
            each.filter(made)
    return made


class _JournalHandler(_Unlocked):
    """Records as datagrams of journald's native protocol; on the standard error those that journald does not take."""

    _PRIORITY = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def __init__(self, journal: Journal, instead: Appender) -> None:
        super().__init__()
        self._journal = journal
        self.out = instead
        self._missed = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = self._fields(record)
        except Exception:  # noqa: BLE001 - logging's own rule: a log line never breaks its caller
            fields = self._fields(_unformatted(record, self.filters))
        try:
            self._journal.send(fields)
            if self._missed:
                text = (
                    f"{self._missed} lines did not reach the journal; they are on the standard error, if it took them"
                )
                self._journal.send({"MESSAGE": text, "PRIORITY": "4", "SYSLOG_IDENTIFIER": "apid"})
                self._missed = 0
        except OSError as error:
            self._missed += 1
            line = f"apid: the journal takes no lines ({error}): {fields['MESSAGE']}"
            self.out.append([_octets(line)], lambda lost, reason: _octets(f"apid: {lost} lines are lost: {reason}"))

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        parts = Parts.of(record)
        fields = {
            "MESSAGE": "\n".join(escape(text) for text in (parts.message, *parts.block.splitlines()) if text),
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
        return fields

    def close(self) -> None:
        """Close both outputs, which the next record opens again."""
        self._journal.close()
        self.out.close()
        super().close()
