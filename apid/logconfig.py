"""Handlers of log_config_append: Python's own, which open, rename and remove files at any time.

In a parent that is root while its workers are not, they do all of this as the workers' user (apid.posix.acting): that
user's rights decide where a path may lead. In any process of root they open files as apid.posix.logfile does, and do not wait
for the reader of a FIFO.
"""

from __future__ import annotations

import configparser
import functools
import logging
import logging.config
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from apid.conf.identity import User
from apid.posix import acting, logfile


def install(text: str, path: str, user: User | None) -> None:
    """Set the standard loggers up as the file says.

    Args:
        text: what the file held when the configuration was read.
        path: its name, for messages.
        user: the workers' user.

    Raises:
        Exception: whatever is wrong with it, or what the classes that it names raise.
    """
    parser = configparser.ConfigParser()
    parser.read_string(text, path)
    plain = logging.FileHandler._open  # noqa: SLF001 - documented; a handler opens its file as soon as it is made
    if os.geteuid() == 0:
        logging.FileHandler._open = _open  # type: ignore[method-assign, assignment]  # noqa: SLF001 - until they are made
    try:
        with acting.acting_as(user):
            logging.config.fileConfig(parser, disable_existing_loggers=False)
    finally:
        logging.FileHandler._open = plain  # type: ignore[method-assign]  # noqa: SLF001 - the application's are its own


def guard(handlers: Iterable[logging.Handler], user: User | None) -> None:
    """Have handlers that `install` made act as `user` from now on, and open their files with care where this process is root.

    logging reports what they raise on the standard error, so that a log line never breaks its caller. (Without this, the one that
    watches its file raises to the caller that it cannot open it.)
    """
    for handler in handlers:
        if isinstance(handler, logging.FileHandler) and os.geteuid() == 0:
            vars(handler)["_open"] = functools.partial(_open, handler, user)
        vars(handler)["handle"] = functools.partial(_handle, handler, handler.handle, user)


def reopen(handler: logging.FileHandler) -> None:
    """Open the file of a handler again.

    Raises:
        OSError: it cannot be opened; the old one stays in use.
    """
    path = Path(handler.baseFilename)
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        return  # a FIFO is not rotated, and the handler's way to open it may wait for its reader
    old = handler.setStream(handler._open())  # noqa: SLF001 - documented, and the only way to open its file
    if old is not None:
        old.close()


def _handle(
    handler: logging.Handler, handle: Callable[[logging.LogRecord], Any], user: User | None, record: logging.LogRecord
) -> None:
    try:
        with acting.acting_as(user):
            handle(record)
    except Exception:  # noqa: BLE001 - see `guard`
        handler.handleError(record)


def _open(handler: logging.FileHandler, user: User | None = None) -> IO[str]:
    path, mode = handler.baseFilename, handler.mode
    with acting.acting_as(user):
        return open(path, mode, encoding=handler.encoding, errors=handler.errors, opener=logfile.opener)
