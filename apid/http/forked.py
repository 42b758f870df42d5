"""How a process ends that the application forked inside a worker, once it comes back out of the application's code.

It has nothing of the worker's (apid.worker.forks) and must not go on as one: the frames it returns to are copies of the
worker's. A child that ends itself, by exec, os._exit or as a multiprocessing.Process, never comes here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import NoReturn

LOG = logging.getLogger(__name__)


def leave(error: BaseException | None) -> NoReturn:
    """End this process.

    Args:
        error: with what the application's code ended. SystemExit gives the exit status as in Python; any other end, returning
            to the server included, is logged and gives 1.
    """
    code: object = 1
    if isinstance(error, SystemExit):
        code = error.code or 0
    else:
        LOG.error(
            "process %d, which the application forked, came back to the server: it ends; os._exit ends such a process",
            os.getpid(),
            exc_info=error if error is not None and not isinstance(error, OSError) else None,
        )
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the application's, whatever it is by now
            stream.flush()
    os._exit(code & 0xFF if isinstance(code, int) else 1)
