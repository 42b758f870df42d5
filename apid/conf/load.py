"""From the command line, the environment and the files to `Settings`; every option is read and checked here, never later."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from oslo_config import cfg

from apid.conf import files
from apid.conf.build import build
from apid.conf.command_line import command_line
from apid.conf.files import anchored
from apid.conf.settings import Settings
from apid.conf.values import Values
from apid.errors import ConfigError


def working_directory() -> str:
    """Return the working directory of this process; empty when it was removed (getcwd(3) then has no answer)."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def load(argv: Sequence[str], *, environ: Mapping[str, str] | None = None, directory: str | None = None) -> Settings:
    """Read the configuration again; nothing of an earlier call is remembered.

    Args:
        argv: the arguments after the program's name.
        environ: instead of os.environ.
        directory: what relative paths of the command line and the environment start from; the working directory by default. A
            daemon passes the one that it was started in: it may be removed later.

    Raises:
        ConfigError: a file, an option, a variable or an argument is wrong. Each line of the text is one mistake, complete
            with its place.
        SystemExit: with 0, after --help and --version.
    """
    given = command_line(argv)
    directory = working_directory() if directory is None else directory
    read = [files.read(path) for path in files.expand(given.named, directory)]
    try:
        values = Values(given, os.environ if environ is None else environ, read, directory)
    except cfg.Error as error:  # what our own pass let through and oslo.config refuses all the same
        raise ConfigError(str(error)) from error
    directories = tuple(anchored(path, directory) for kind, path in given.named if kind == "dir")
    return dataclasses.replace(build(values, tuple(file.path for file in read)), directories=directories)
