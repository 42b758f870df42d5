"""From the command line, the environment and the files to `Settings`; every option is read and checked here, never later."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from oslo_config import cfg

from apid.conf import files
from apid.conf.build import build
from apid.conf.command_line import command_line
from apid.conf.settings import Settings
from apid.conf.values import Values
from apid.errors import ConfigError


def load(argv: Sequence[str], *, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration anew; nothing of an earlier call is remembered.

    Args:
        argv: the arguments after the program's name.
        environ: instead of os.environ.

    Raises:
        ConfigError: a file, an option, a variable or an argument is wrong. Each line of the text is one mistake, complete
            with its place.
        SystemExit: with 0, after --help and --version.
    """
    given = command_line(argv)
    read = [files.read(path) for path in files.expand(given.named)]
    try:
        values = Values(given, os.environ if environ is None else environ, read)
    except cfg.Error as error:  # what our own pass let through and oslo.config refuses all the same
        raise ConfigError(str(error)) from error
    return build(values, tuple(file.path for file in read))
