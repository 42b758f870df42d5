"""Commands of apidctl that others bring: entry points of the group `apidctl.commands`, called by name and never imported.

A command is a callable (arguments after its name, [database] connection of the configuration) that returns what is printed, or
raises ValueError with the reason.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Sequence

from apid import conf
from apid.errors import ApidError

GROUP = "apidctl.commands"


class PluginError(ApidError):
    """The command could not be done; the text is its reason."""

    exit_code = 1  # type: ignore[assignment]  # apidctl's own: 1 is "it was not done", not the daemon's CUT


def names() -> list[str]:
    """The commands that there are."""
    return sorted(importlib.metadata.entry_points(group=GROUP).names)


def run(argv: Sequence[str]) -> bool:
    """Run a command of somebody else's; False when the first word of `argv` is none of them.

    Raises:
        PluginError: it could not be done.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-file", action="append", default=[])
    parser.add_argument("--config-dir", action="append", default=[])
    for name in ("--socket", "--timeout"):  # of apidctl itself; these commands talk to no daemon
        parser.add_argument(name)
    parser.add_argument("--quiet", action="store_true")
    args, rest = parser.parse_known_args(argv)
    found = importlib.metadata.entry_points(group=GROUP)
    if not rest or rest[0] not in found.names:
        return False
    files = [word for file in args.config_file for word in ("--config-file", file)]
    dirs = [word for directory in args.config_dir for word in ("--config-dir", directory)]
    settings = conf.load([*files, *dirs])
    command = found[rest[0]].load()
    try:
        told = command(rest[1:], settings.database)
        if not args.quiet:
            print(told)  # noqa: T201 - its output
    except ValueError as error:
        raise PluginError(str(error)) from error
    return True
