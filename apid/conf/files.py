"""Our own pass over the configuration files: on which line what is set, and whether anybody knows the name.

oslo.config keeps no line numbers and never reports a name that no one registered. The grammar is oslo.config's own
(`oslo_config.iniparser`), so that this pass and the real one cannot read a file differently.
"""

from __future__ import annotations

import dataclasses
import difflib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from oslo_config import cfg, iniparser

from apid.conf import listener, text
from apid.conf.opts import DEFAULT
from apid.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """One `key = value` of a file; the section is normalised as oslo.config does (lower case, [DEFAULT] as it is)."""

    file: str
    line: int
    section: str
    key: str
    value: str


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigFile:
    """What one file holds.

    Attributes:
        sections: each section as it is spelled, with its first line.
    """

    path: str
    sections: tuple[tuple[str, int], ...]
    assignments: tuple[Assignment, ...]


class _Parser(iniparser.BaseParser):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.sections: dict[str, int] = {}
        self.assignments: list[Assignment] = []
        self._section = ""
        self._key_line = 0

    def _split_key_value(self, line: str) -> tuple[str, list[str]]:
        self._key_line = self.lineno  # a value may go on over further lines, and assignment() comes after them
        return super()._split_key_value(line)

    def new_section(self, section: str) -> None:
        self.sections.setdefault(section, self.lineno)
        self._section = section

    def assignment(self, key: str, value: list[str]) -> None:
        if not self._section:
            self._refuse(self._key_line, f"{key} stands before any section: write [DEFAULT] above it")
        section = normalise(self._section)
        self.assignments.append(Assignment(self.path, self._key_line, section, key, "\n".join(value)))

    def _refuse(self, line: int, reason: str) -> NoReturn:
        raise ConfigError(f"{self.path}:{line}: {reason}")


def normalise(section: str) -> str:
    """Return the name under which oslo.config looks a section up."""
    return section if section == DEFAULT else section.lower()


def _of_listener(section: str) -> bool:
    return normalise(section).startswith(listener.PREFIX)


def expand(named: Sequence[tuple[str, str]], start: str) -> list[str]:
    """Return the absolute paths of the files, in the order in which they count.

    Args:
        named: (`file` or `dir`, path) as the command line gives them; nothing: the places where oslo.config looks for the
            project apid (~/.apid, ~, /etc/apid, /etc; and there apid.conf and apid.conf.d/*.conf).
        start: the directory that a relative path starts from; empty: it was removed.

    Raises:
        ConfigError: a directory that was asked for is none or cannot be read.
    """
    if not named:
        found = cfg.find_config_files(project="apid", prog="apid")
        directories = cfg.find_config_dirs(project="apid", prog="apid")
        paths = [*found, *(path for directory in directories for path in _in_directory(directory))]
        return list(dict.fromkeys(paths))
    paths = []
    for kind, path in named:
        try:
            absolute = anchored(path, start)
        except ValueError as error:
            raise ConfigError(f"--config-{kind} {path}: {error}") from None
        paths += [absolute] if kind == "file" else _in_directory(absolute)
    return paths


def _in_directory(directory: str) -> list[str]:
    try:
        return sorted(str(path) for path in Path(directory).iterdir() if path.suffix == ".conf")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"--config-dir {directory}: there is no such directory") from None
    except OSError as error:
        raise ConfigError(f"--config-dir {directory}: cannot be read: {error.strerror}") from error


def anchored(path: str, start: str) -> str:
    """Return `path` as an absolute one; a relative one starts from `start`, which is empty where there is no such directory.

    Raises:
        ValueError: it has no meaning.
    """
    if "\0" in path:
        raise ValueError("a path cannot hold a null character")
    try:
        expanded = Path(path).expanduser()
    except RuntimeError as error:  # ~nobody-of-that-name
        raise ValueError(str(error)) from None
    if not start and not expanded.is_absolute():
        raise ValueError("the working directory was removed, so only an absolute path has a meaning")
    base = Path(start)
    while expanded.parts[:1] == ("..",):  # not left to the kernel: the directory of the start may be removed later
        base, expanded = base.parent, expanded.relative_to("..")
    return str(base / expanded)


def read(path: str) -> ConfigFile:
    """Read one file.

    Raises:
        ConfigError: it cannot be read, is not UTF-8, or has a line that is neither section, assignment nor comment.
    """
    parser = _Parser(path)
    try:
        parser.parse(io.StringIO(text.read(path)))
    except OSError as error:
        raise ConfigError(f"{path}: the configuration file cannot be read: {error.strerror}") from error
    except text.TextError as error:
        raise ConfigError(f"{path}:{error.line}: {error.reason}") from error
    except iniparser.ParseError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.msg}: {text.show(error.line.strip())}") from error
    return ConfigFile(path, tuple(parser.sections.items()), tuple(parser.assignments))


class Known:
    """Which names there are: the registered options and their aliases.

    Args:
        groups: the groups with their options.
        listeners_known: False while it is not yet known which [listener:NAME] there are: those sections are passed over.
    """

    def __init__(
        self, groups: Iterable[tuple[cfg.OptGroup | None, Sequence[cfg.Opt]]], *, listeners_known: bool
    ) -> None:
        self._listeners_known = listeners_known
        self._real: dict[str, set[str]] = {}
        self._all: dict[str, set[str]] = {}
        for group, options in groups:
            section = group.name if group else DEFAULT
            self._real[section] = {opt.dest for opt in options}
            for opt in options:
                for place, name in names_of(section, opt):
                    self._all.setdefault(place, set()).add(name)

    def complaints(self, file: ConfigFile) -> list[str]:
        """Return a line for each section and option of the file that nobody knows."""
        found = []
        filled = {item.section for item in file.assignments}
        for section, line in file.sections:
            if normalise(section) in self._all:
                continue
            # An empty [listener:name] may stand without being named: it does nothing, and the sample file has one.
            if not _of_listener(section) or (self._listeners_known and normalise(section) in filled):
                found.append(f"{file.path}:{line}: unknown section [{section}]{self._hint_section(section)}")
        for item in file.assignments:
            if item.section in self._all and item.key not in self._all[item.section]:
                hint = self._hint_option(item.section, item.key)
                found.append(f"{item.file}:{item.line}: unknown option {item.key} in [{item.section}]{hint}")
        return found

    def complaint_about_variable(self, variable: str) -> str | None:
        """Return what is wrong with an environment variable OS_<GROUP>__<OPT>, None where nothing is or it is not ours."""
        group, _, name = variable.removeprefix("OS_").partition("__")
        for section, names in self._real.items():
            if section.upper() == group.upper() and name.lower() not in names:
                return f"environment: {variable}: unknown option{self._hint_option(section, name.lower())}"
        return None

    def _hint_section(self, section: str) -> str:
        if _of_listener(section):
            return f": {section.partition(':')[2]} is not named in the option listeners"
        near = difflib.get_close_matches(normalise(section), [*self._real, *(name.lower() for name in self._real)], 1)
        if near:
            right = DEFAULT if near[0] == DEFAULT.lower() else near[0]
            return f"; did you mean [{right}]?"
        return "; there are " + ", ".join(f"[{name}]" for name in self._real)

    def _hint_option(self, section: str, key: str) -> str:
        spelled = key.replace("-", "_").lower()
        near = difflib.get_close_matches(spelled, self._real.get(section, ()), 1, 0.75)
        if near:
            return f"; did you mean {near[0]}?"
        elsewhere = [other for other, names in self._real.items() if spelled in names]
        if elsewhere:
            return f"; it belongs into [{elsewhere[0]}]"
        near = difflib.get_close_matches(spelled, sorted(set().union(*self._real.values())), 1, 0.5)
        return f"; the nearest known name is {near[0]}" if near else "; apid --help lists the options"


def names_of(section: str, opt: cfg.Opt) -> list[tuple[str, str]]:
    """Return (section, name) for every spelling of an option, the real one first, as oslo.config looks them up."""
    names = [(section, opt.dest)]
    names += [(normalise(alias.group or section), alias.name or opt.dest) for alias in opt.deprecated_opts]
    return names
