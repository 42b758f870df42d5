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


def set_up(settings: Settings) -> None:
    """Set up the log. Its file belongs to the workers' user: they reopen it after USR1, without privileges.

    Raises:
        ConfigError: the file cannot be opened.
    """
    who = identity.of(settings.daemon.user, settings.daemon.group)
    log.setup(settings.log, identity=f"pid={os.getpid()}", owner=(who.uid, who.gid) if who is not None else None)


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
