"""The programs `apid` and `apidctl`: from a command line to an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable

from apid.errors import ApidError, ExitCode

OURS = r"(apid|eventlet|greenlet|paste|webob|routes|repoze|oslo_config|stevedore|pkg_resources|setproctitle|dns|rich)(\.|$)"
"""Modules whose warnings are not the operator's to mend: this program and what it stands on."""


def apid() -> int:
    """Serve, or check the configuration; the console script `apid`."""
    _complete_standard_streams()
    return _guarded("apid", _apid)


def _apid() -> int:
    from apid import conf
    from apid.cli import serve, trial

    argv = sys.argv[1:]
    if argv[:1] == ["init"]:
        from apid.cli import init

        return init.init(argv[1:])
    if conf.command_line(argv).check_config:
        return trial.check(argv, serve.check_program())
    return serve.serve(argv)


def apidctl() -> int:
    """Talk to a running daemon; the console script `apidctl`."""
    return _guarded("apidctl", _apidctl)


def _apidctl() -> int:
    from apid.cli import ctl, plugins

    argv = sys.argv[1:]
    return ExitCode.OK if plugins.run(argv) else ctl.main(argv)


def _complete_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed: a socket that got its number would receive what programs print."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
            setattr(sys, name, open(fd, "w" if fd else "r", encoding="utf-8", closefd=False))  # noqa: SIM115 - to the end


def _guarded(name: str, program: Callable[[], int]) -> int:
    """The one place where errors become exit codes."""
    _own_warnings()
    try:
        return program()
    except ApidError as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - this is what a program's standard error is for
        return error.exit_code
    except Exception:  # noqa: BLE001 - a bug of ours; sysexits' EX_SOFTWARE says so to the supervisor
        traceback.print_exc()
        return ExitCode.BUG


def _own_warnings() -> None:
    """Undo PYTHONWARNINGS=error for OURS, whose warnings would end every worker; those of the application stay what they are."""
    warnings.filterwarnings("default", module=OURS)
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):  # as Python has it
        warnings.filterwarnings("ignore", category=category, module=OURS)
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    warnings.filterwarnings("ignore", message="'cgi' is deprecated")  # WebOb 1.8's import, on 3.11 and 3.12


if __name__ == "__main__":
    sys.exit(apid())
