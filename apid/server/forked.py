"""Ends a process that the application forked inside a worker and that returns from the application's code to the server.

Such a process holds nothing of the worker (apid.worker.forks), but the frames it returns to are copies of the worker's: it must
not continue as a worker. A child that ends by exec, by os._exit or as a multiprocessing.Process never gets here.
"""

from __future__ import annotations

import os
from typing import NoReturn

from apid.loggers import logger
from apid.posix import processes
from apid.server.interruptions import ClientGone

LOG = logger(__name__)


def leave(error: BaseException | None) -> NoReturn:
    """End this process.

    Args:
        error: what the application's code raised. SystemExit gives the exit status, as in Python; any other exception, and a
            plain return (None), is logged and gives 1.
    """
    code: object = 1
    if isinstance(error, SystemExit):
        code = error.code or 0
    else:
        LOG.error(
            "process %d, forked by the application, returned to the server: it ends; it should have ended with os._exit",
            os.getpid(),
            exc_info=None if isinstance(error, ClientGone) else error,
        )
    processes.flush()
    os._exit(code & 0xFF if isinstance(code, int) else 1)
