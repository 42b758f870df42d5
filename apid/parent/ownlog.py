"""The parent's own log: set up at start and reload, reopened on demand. What is in it, and how, is apid.log's."""

from __future__ import annotations

import os

from apid import log
from apid.conf import identity
from apid.conf.settings import Log, Settings
from apid.errors import ApidError
from apid.loggers import logger
from apid.parent.events import LogsReopened

LOG = logger("apid.parent")


def reserve(settings: Settings) -> None:
    """Open the log of a generation that is or may be, for `set_up` and for its workers.

    Raises:
        ConfigError: it cannot be opened.
    """
    log.reserve(settings.log, identity.of(settings.daemon.user, settings.daemon.group))


def set_up(settings: Settings) -> None:
    """Set up the log. Workers, without privileges, must be able to reopen its file: it is opened as their user.

    Raises:
        ConfigError: the file cannot be opened.
    """
    who = identity.of(settings.daemon.user, settings.daemon.group)
    log.setup(settings.log, identity=f"pid={os.getpid()}", user=who)


def fall_back() -> None:
    """Log to the standard error, as after a start without options, until a configuration can be applied."""
    log.setup(Log(), identity=f"pid={os.getpid()}")


def reopen() -> LogsReopened:
    """Reopen the files; where that fails the old ones stay in use, and the error says why."""
    try:
        log.reopen()
    except ApidError as error:
        LOG.error("%s", error)  # noqa: TRY400 - a traceback would say nothing more
        return LogsReopened(str(error))
    return LogsReopened()
