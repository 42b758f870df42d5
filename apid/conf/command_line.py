"""The command line of apid: every option of every group, and --config-file, --config-dir, --check-config, --version.

Not oslo.config's own parser: that one lets a file named after an option override it, says that a value came from a file when
it came from the command line, and prints a traceback or a usage text for a mistake (oslo.config 10.7). Here a mistake is a
ConfigError, and the command line always wins.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from collections.abc import Sequence
from typing import NoReturn

from oslo_config import cfg

from apid.conf.opts import groups
from apid.conf.types import Switch
from apid.errors import ConfigError
from apid.version import VERSION

Name = tuple[str | None, str]
"""(group or None for [DEFAULT], option)."""


@dataclasses.dataclass(frozen=True, slots=True)
class CommandLine:
    """What was asked for.

    Attributes:
        check_config: load everything, print what was found, serve nothing.
        named: (`file` or `dir`, path) for each --config-file and --config-dir, in their order.
        values: what the other options were given, as text: one text each, several for an option that may be repeated.
    """

    check_config: bool
    named: tuple[tuple[str, str], ...]
    values: dict[Name, list[str]]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"command line: {message} (see {self.prog} --help)")


def command_line(argv: Sequence[str]) -> CommandLine:
    """Parse the arguments after the program's name. --help and --version print to the standard output.

    Raises:
        ConfigError: an unknown option, an argument that is missing or is one too many.
        SystemExit: with 0, after --help and --version.
    """
    parser, names = _parser()
    parsed, rest = parser.parse_known_args([_dashes(arg) for arg in argv])
    if rest:
        parser.error(_unknown(rest[0], list(parser._option_string_actions)))  # noqa: SLF001 - argparse has no public list
    values = {name: given for dest, name in names.items() if (given := getattr(parsed, dest)) is not None}
    return CommandLine(parsed.check_config, tuple(parsed.named or ()), values)


def flag(name: Name) -> str:
    """Return how an option is spelled on the command line."""
    group, option = name
    return "--" + (f"{group}-{option}" if group else option).replace("_", "-")


def _parser() -> tuple[_Parser, dict[str, Name]]:
    parser = _Parser(
        prog="apid",
        description="Serves Paste Deploy pipelines from forked workers. Every option can also stand in a configuration file or "
        "in the environment, as OS_<GROUP>__<OPTION>; the command line wins, then the environment, then the last file.",
        usage="apid [--config-file PATH] [--config-dir DIR] [--check-config] [--OPTION VALUE ...]",
        allow_abbrev=False,  # an abbreviation that works today is ambiguous after the next new option
    )
    parser.add_argument("--version", action="version", version=f"apid {VERSION}")
    parser.add_argument(
        "--config-file",
        dest="named",
        action="append",
        type=lambda path: ("file", path),
        metavar="PATH",
        help="Configuration file; may be given several times, and the later one wins. The default is the first apid.conf in "
        "~/.apid, ~, /etc/apid and /etc, and the files apid.conf.d/*.conf found the same way.",
    )
    parser.add_argument(
        "--config-dir",
        dest="named",
        action="append",
        type=lambda path: ("dir", path),
        metavar="DIR",
        help="Directory whose *.conf files are read in the order of their names.",
    )
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="Load the configuration and every pipeline, print what was found and exit with 0, or with 2 and the reason.",
    )
    names: dict[str, Name] = {}
    for group, options in groups():
        title = f"[{group.name}]" if group else "[DEFAULT]"
        section = parser.add_argument_group(title, (group.help or "").replace("%", "%%") if group else None)
        for opt in options:
            name = (group.name if group else None, opt.dest)
            names[f"{name[0] or ''}.{name[1]}"] = name
            _add(section, name, opt)
    return parser, names


def _add(section: argparse._ArgumentGroup, name: Name, opt: cfg.Opt) -> None:
    dest = f"{name[0] or ''}.{name[1]}"
    text = (opt.help or "").replace("%", "%%")
    if isinstance(opt.type, Switch):
        section.add_argument(
            flag(name), dest=dest, nargs="?", const=["true"], type=lambda text: [text], help=text, metavar="BOOL"
        )
        section.add_argument(
            flag((name[0], f"no-{name[1]}")), dest=dest, action="store_const", const=["false"], help=argparse.SUPPRESS
        )
    elif opt.multi:
        section.add_argument(flag(name), dest=dest, action="append", help=text, metavar=name[1].upper())
    else:
        section.add_argument(flag(name), dest=dest, type=lambda text: [text], help=text, metavar=name[1].upper())


def _dashes(arg: str) -> str:
    """`--bind_port=1` is `--bind-port=1`: oslo.config's users write the former."""
    if not arg.startswith("--"):
        return arg
    name, equals, value = arg.partition("=")
    return name.replace("_", "-") + equals + value


def _unknown(arg: str, known: list[str]) -> str:
    if not arg.startswith("-"):
        return f"unexpected argument {arg!r}"
    near = difflib.get_close_matches(arg.partition("=")[0], known, 1)
    return f"unknown option {arg}" + (f"; did you mean {near[0]}?" if near else "")
