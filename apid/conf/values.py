"""Values with their origin: what each option was given, converted, and where that stands."""

from __future__ import annotations

import dataclasses
import logging
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from oslo_config import cfg, sources
from oslo_config.sources import _environment

from apid.conf import listener
from apid.conf.command_line import CommandLine, Name, flag
from apid.conf.files import Assignment, ConfigFile, Known, anchored, names_of
from apid.conf.opts import DEFAULT, groups
from apid.conf.settings import Address
from apid.conf.text import content, show, unreadable
from apid.conf.types import Bind, FilePath, check_unix_path, spell
from apid.errors import ConfigError

LARGEST = 16 << 20
"""Bytes of a file that an option names: the workers' user may own it, and the parent reads it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Where a value stands.

    Attributes:
        where: the file, the environment variable or the flag; empty for a default.
        line: of the file. alias: the other spelling that was used there, or empty.
        directory: what a relative path starts from; empty: it was removed. The file's own folder where there is one.
    """

    kind: Literal["default", "file", "environment", "command line"] = "default"
    where: str = ""
    line: int = 0
    alias: str = ""
    directory: str = ""

    def __str__(self) -> str:
        """For the operator: `FILE:LINE`, `environment: VARIABLE`, `command line: FLAG` or `default`."""
        if self.kind == "file":
            return f"{self.where}:{self.line}" + (f" (as {self.alias})" if self.alias else "")
        return f"{self.kind}: {self.where}" if self.where else self.kind

    def absolute(self, path: str) -> str:
        """Return the path relative to the file that set it; one from elsewhere is relative to the working directory.

        Raises:
            ValueError: it has no meaning.
        """
        start = str(Path(self.where).parent) if self.kind == "file" else self.directory
        return os.path.normpath(anchored(path, start))


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """One option's value. `raw` is the text as given; empty for a default."""

    group: str | None
    option: str
    value: Any
    raw: str
    origin: Origin

    @property
    def name(self) -> str:
        """`option`, or `group.option`."""
        return f"{self.group}.{self.option}" if self.group else self.option

    @property
    def text(self) -> str:
        """The value in effect, spelled as in a file."""
        return spell(self.value)

    @property
    def where(self) -> str:
        """The beginning of an error: `FILE:LINE: [GROUP] OPTION = VALUE`."""
        return _where(self.group, self.option, self.raw, self.origin)

    def error(self, reason: str) -> ConfigError:
        """Return the error that says where the value stands and what is wrong with it."""
        return ConfigError(f"{self.where}: {reason}")

    def is_directory(self, path: str) -> bool:
        """Whether there is a directory `path`; raises the error where that cannot be known (EACCES, ELOOP, ...)."""
        try:
            return stat.S_ISDIR(Path(path).stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self.error(f"{path} cannot be reached: {error.strerror}") from None

    def check_readable(self) -> None:
        """Raise the error where this names a file that cannot be read, or whose content would fill the memory of the parent."""
        try:
            if Path(self.value).stat().st_size > LARGEST:
                raise self.error(f"{self.value} is larger than {LARGEST >> 20} MiB")
            content(self.value)
        except OSError as error:
            raise self.error(unreadable(self.value, error)) from None


def complaint(group: str | None, option: str, raw: str, origin: Origin, reason: str) -> str:
    """Return `FILE:LINE: [GROUP] OPTION = VALUE: REASON`."""
    return f"{_where(group, option, raw, origin)}: {reason}"


def _where(group: str | None, option: str, raw: str, origin: Origin) -> str:
    given = f" = {show(raw)}" if raw else " ="
    return f"{origin}: [{group or DEFAULT}] {option}{given if origin.kind != 'default' else ''}"


class _Outside(_environment.EnvironmentConfigurationSource):
    """Command line and environment, in this order, as oslo.config's source above the files."""

    def __init__(self, given: CommandLine, environ: Mapping[str, str], directory: str) -> None:
        self._given = given.values
        self._environ = environ
        self._directory = directory

    def get(self, group_name: str | None, option_name: str, opt: cfg.Opt) -> tuple[Any, cfg.LocationInfo | None]:
        found = self.find(group_name, option_name, opt)
        if found is None:
            return sources._NoValue, None  # noqa: SLF001 - the marker that every source of oslo.config returns
        texts, origin = found
        location = cfg.Locations.command_line if origin.kind == "command line" else cfg.Locations.environment
        return texts if opt.multi else texts[0], cfg.LocationInfo(location, origin.where)

    def find(self, group: str | None, option: str, opt: cfg.Opt) -> tuple[list[str], Origin] | None:
        """Return the texts and their origin, or None."""
        name: Name = (group, option)
        if name in self._given:
            return self._given[name], Origin("command line", flag(name), directory=self._directory)
        variable = self.get_name(group, option)
        if variable in self._environ:
            text = self._environ[variable]
            # A variable holds one text: the values of an option that may be repeated are separated by commas.
            texts = [item.strip() for item in text.split(",")] if opt.multi else [text]
            return texts, Origin("environment", variable, directory=self._directory)
        return None


class Values:
    """All options of one load."""

    def __init__(
        self, given: CommandLine, environ: Mapping[str, str], files: Sequence[ConfigFile], directory: str
    ) -> None:
        self._files = files
        self._outside = _Outside(given, environ, directory)
        self._environ = environ
        self._all: dict[Name, Value] = {}
        logger = logging.getLogger("oslo_config.cfg")
        # An alias is a supported spelling here, not worth oslo.config's warning.
        was_disabled, logger.disabled = logger.disabled, True
        try:
            self._read()
        finally:
            logger.disabled = was_disabled

    def __getitem__(self, name: str | Name) -> Value:
        return self._all[(None, name) if isinstance(name, str) else name]

    def __iter__(self) -> Iterator[Value]:
        return iter(self._all.values())

    def _read(self) -> None:
        always = groups()
        self._refuse_unknown(Known(always, listeners_known=False))
        conf = cfg.ConfigOpts()
        for group, options in always:
            conf.register_opts(options, group=group)
        # Private, but the only door: oslo.config has no public way to put a source above the files.
        conf._env_driver = self._outside  # noqa: SLF001 - oslo.config has no public way to replace the environment
        arguments = [f"--config-file={file.path}" for file in self._files]
        conf(arguments, project="apid", prog="apid", default_config_files=[], default_config_dirs=[])
        self._convert(conf, always)
        further: list[tuple[cfg.OptGroup | None, list[cfg.Opt]]] = [
            (listener.group(name), listener.listener_opts()) for name in self["listeners"].value
        ]
        self._refuse_unknown(Known([*always, *further], listeners_known=True))
        for group, options in further:
            conf.register_opts(options, group=group)
        self._convert(conf, further)

    def _refuse_unknown(self, known: Known) -> None:
        found = [line for file in self._files for line in known.complaints(file)]
        variables = sorted(name for name in self._environ if name.startswith("OS_") and "__" in name)
        found += [line for name in variables if (line := known.complaint_about_variable(name))]
        if found:
            raise ConfigError("\n".join(found))

    def _convert(self, conf: cfg.ConfigOpts, known_groups: Sequence[tuple[cfg.OptGroup | None, list[cfg.Opt]]]) -> None:
        errors = []
        for group, options in known_groups:
            for opt in options:
                name: Name = (group.name if group else None, opt.dest)
                raw, origin = self._origin(name, opt)
                try:
                    value = conf[name[0]][opt.dest] if name[0] else conf[opt.dest]
                    self._all[name] = Value(*name, self._anchored(name, opt, value, origin), raw, origin)
                except (ValueError, cfg.NoSuchOptError, cfg.NoSuchGroupError, RecursionError) as error:
                    errors.append(self._complaint(name, opt, error))
        if errors:
            raise ConfigError("\n".join(errors))

    def _anchored(self, name: Name, opt: cfg.Opt, value: Any, origin: Origin) -> Any:
        """Return paths made absolute, any other value as it is."""
        if isinstance(opt.type, Bind):
            items = value or ()
            places = [_origin_of(item, name) for item in self._assignments(name, opt)]
            if origin.kind != "file":
                places = [origin] * len(items)
            return tuple(_anchored_address(item, place) for item, place in zip(items, places, strict=True))
        if isinstance(opt.type, FilePath) and value is not None:
            return origin.absolute(value)
        return value

    def _assignments(self, name: Name, opt: cfg.Opt) -> list[Assignment]:
        """Return the assignments that count, as oslo.config chooses: the last file; in a file the real name, then the aliases."""
        spellings = names_of(name[0] or DEFAULT, opt)
        result: list[Assignment] = []
        for file in reversed(self._files):
            for spelling in spellings:
                found = [item for item in file.assignments if (item.section, item.key) == spelling]
                result = [*found, *result]
                if found and not opt.multi:
                    return found[-1:]
        return result

    def _origin(self, name: Name, opt: cfg.Opt) -> tuple[str, Origin]:
        outside = self._outside.find(*name, opt)
        if outside:
            return ",".join(outside[0]), outside[1]
        found = self._assignments(name, opt)
        if not found:
            return "", Origin()
        return ",".join(item.value for item in found), _origin_of(found[-1], name)

    def _complaint(self, name: Name, opt: cfg.Opt, error: BaseException) -> str:
        raw, origin = self._origin(name, opt)
        if not isinstance(error, ValueError):
            if name == ("database", "connection"):  # the name after the $ may be the end of a password
                return complaint(*name, "***", origin, "a $ in it names no option; write $$ for a dollar sign")
            return complaint(*name, raw, origin, _wrong_reference(error))
        if opt.multi:  # name the one that is wrong
            candidates = [(item.value, _origin_of(item, name)) for item in self._assignments(name, opt)]
            if origin.kind != "file":
                candidates = [(text, origin) for text in raw.split(",")]
            for text, place in candidates:
                try:
                    opt.type(text)
                except ValueError:
                    raw, origin = text, place
                    break
        return complaint(*name, raw, origin, str(error.__context__ or error))


def _wrong_reference(error: BaseException) -> str:
    """Say what is wrong with a `$name` in a value: oslo.config raises that the option which holds it does not exist."""
    chain = [error]
    while (cause := chain[-1].__context__) is not None and len(chain) < 10:
        chain.append(cause)
    if any(isinstance(link, RecursionError) for link in chain):
        return "it refers to itself"
    asked = chain[min(1, len(chain) - 1)]  # the outermost may name the option that holds the reference
    what = (
        f"group [{asked.group_name}]"
        if isinstance(asked, cfg.NoSuchGroupError)
        else f"${getattr(asked, 'opt_name', '')}"
    )
    return f"{what} does not exist; write $$ for a dollar sign"


def _origin_of(item: Assignment, name: Name) -> Origin:
    alias = "" if (item.section, item.key) == (name[0] or DEFAULT, name[1]) else item.key
    if alias and item.section not in (name[0], DEFAULT):
        alias = f"[{item.section}] {item.key}"
    return Origin("file", item.file, item.line, alias)


def _anchored_address(address: Address, origin: Origin) -> Address:
    if address.kind != "unix":
        return address
    path = origin.absolute(address.path)
    check_unix_path(path)
    return dataclasses.replace(address, path=path)
