"""What can go wrong in the daemon, and the one table of exit codes.

Every error that an operator is meant to read is an `ApidError`: its text names the file, option, line, address or request
concerned, and its class says with which code the program ends. Nothing else of the daemon is imported here.
"""

from __future__ import annotations

import enum
import errno


class ExitCode(enum.IntEnum):
    """With what `apid` ends; documented in README.md and held against it by a test."""

    OK = 0
    CUT = 1
    """The stop lost a request: its deadline, a stop now or a crash cut it; or queued connections were not answered."""
    CONFIG = 2
    """Configuration or pipeline; also a bad command line."""
    BIND = 3
    """An address could not be bound or adopted."""
    NO_WORKER = 4
    """No worker ever became ready."""
    BUG = 70
    """A fault of apid's own (EX_SOFTWARE of sysexits.h)."""


class ApidError(Exception):
    """An error whose text is for the operator. The text is complete: it needs no traceback beside it."""

    exit_code = ExitCode.BUG


class ConfigError(ApidError):
    """A configuration file, an option or a command line is wrong."""

    exit_code = ExitCode.CONFIG


class PipelineError(ApidError):
    """A paste.deploy pipeline could not be loaded.

    Attributes:
        detail: the traceback of the cause, for the log; empty where the text says it all.
    """

    exit_code = ExitCode.CONFIG

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.detail = detail


class BindError(ApidError):
    """An address could not be bound, or an inherited socket could not be adopted."""

    exit_code = ExitCode.BIND


class NoWorkerError(ApidError):
    """No worker became ready."""

    exit_code = ExitCode.NO_WORKER


def is_shortage(error: BaseException) -> bool:
    """Whether the system has refused a resource (descriptors, memory, disk, processes, threads): no fault of the program."""
    if isinstance(error, OSError):
        return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EAGAIN)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and str(error) == "can't start new thread"
    )
