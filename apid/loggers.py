"""The daemon's own loggers: a hierarchy beside the standard one, which belongs to the application.

An application may disable, clear, close or configure the standard loggers at will: `logging.disable`, dictConfig without a root,
disable_existing_loggers, a record factory that raises. The daemon's records still reach the daemon's handlers, which apid.log
attaches here, and no handler of the application's is called from inside the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from apid.logformats import escape
from apid.posix.appender import Appender


class Record(logging.LogRecord):
    """A record of the daemon. It is escaped here because formats of log_config_append do not do it."""

    def getMessage(self) -> str:  # noqa: N802 - logging's name
        """Return the message on one line."""
        return escape(super().getMessage())


class DaemonLogger(logging.Logger):
    """A logger of the daemon's own hierarchy."""

    def makeRecord(  # noqa: N802, PLR0917 - name and signature of logging
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        extra: Mapping[str, object] | None = None,
        sinfo: str | None = None,
    ) -> logging.LogRecord:
        """As logging's, but not by the factory that an application may have set."""
        record = Record(name, level, fn, lno, msg, args, exc_info, func, sinfo)
        record.__dict__.update(extra or {})
        return record

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """As logging's, without its cache: filling that takes the lock of logging, which the application may hold."""
        return level >= self.getEffectiveLevel()

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Give the record to the daemon's handlers; before there are any, to the standard ones."""
        if HIERARCHY.installed:
            super().callHandlers(record)
        else:
            logging.getLogger(record.name).handle(record)


class Hierarchy(logging.Manager):
    """The daemon's own loggers.

    Attributes:
        installed: the handlers that `setup` made or log_config_append wants, in both hierarchies.
        reserved: what is open for the next `setup`.
    """

    def __init__(self) -> None:
        root = DaemonLogger("root", logging.INFO)
        root.manager = self
        super().__init__(root)  # type: ignore[arg-type]  # typeshed wants logging's class of root loggers
        self.loggerClass = DaemonLogger
        self.installed: list[logging.Handler] = []
        self.reserved: Appender | None = None

    def loggers(self) -> list[logging.Logger]:
        """All of them, the root first."""
        return [self.root, *(each for each in self.loggerDict.values() if isinstance(each, logging.Logger))]


HIERARCHY = Hierarchy()


def logger(name: str) -> logging.Logger:
    """Return a logger of the daemon, whose records reach its log whatever the application does to logging."""
    return HIERARCHY.getLogger(name)
