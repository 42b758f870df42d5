"""Paste Deploy's loader of ini files, told to remember where it is.

PasteDeploy 3.1 has no common class for its errors and names the section in some of them only; so every section on the way is
kept on a stack here, and a `Trace` of what was made is left for --check-config. Three more things differ from the original: the
file is read as UTF-8 whatever the locale, a percent sign in its path does no harm, and a section that leads back to itself is
an error with names instead of a RecursionError.

The cause of an error is put into words by `paste_errors`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paste.deploy import loadwsgi

from apid.conf import text
from apid.errors import PipelineError
from apid.loggers import logger

LOG = logger(__name__)

_SECTION_LINE = re.compile(r"\[([^]]+)\]")


@dataclasses.dataclass(slots=True, eq=False)
class Trace:
    """One section as it was loaded.

    Attributes:
        path: of the file. section: its name with the prefix, such as `pipeline:api`.
        uses: what makes it: the value of `use` or of a `paste.…_factory`, for a pipeline its words.
        mounts: option and value of a composite, to see under which path a part is served.
        made: what its factory returned; None until it did.
        parts: the sections that were loaded on its behalf, in the order in which they stand in the file.
    """

    path: str
    section: str
    line: int
    uses: str
    mounts: dict[str, str]
    made: object = None
    parts: list[Trace] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        """The section's name without its prefix."""
        return self.section.partition(":")[2].strip() or self.section


class Failure(Exception):  # noqa: N818 - it carries an error out of the loader and never leaves apid.worker
    """What went wrong, and on the way to which section.

    Attributes:
        cause: the exception as raised. way: the sections entered, the outermost first; the last one is where it happened.
    """

    def __init__(self, cause: BaseException, way: tuple[Trace, ...]) -> None:
        super().__init__(cause, way)
        self.cause = cause
        self.way = way


class Tracker:
    """The stack of sections being loaded, shared by the loaders of all files of one pipeline."""

    def __init__(self) -> None:
        self.root = Trace("", "", 0, "", {})
        self._stack: list[Trace] = []

    @contextlib.contextmanager
    def inside(self, trace: Trace) -> Iterator[None]:
        """Be in a section; whatever is raised becomes a `Failure` at the innermost one."""
        way = tuple(self._stack)
        for index, each in enumerate(way):
            if (each.path, each.section) == (trace.path, trace.section):
                names = " > ".join(f"[{part.section}]" for part in (*way[index:], trace))
                raise Failure(PipelineError(f"it leads back to itself: {names}"), way)
        self._stack.append(trace)
        try:
            yield
        except Failure:
            raise
        except (Exception, SystemExit) as error:
            raise Failure(error, (*way, trace)) from error
        finally:
            self._stack.pop()

    def adopt(self, trace: Trace) -> None:
        """Make the section a part of the one being made."""
        parent = self._stack[-1] if self._stack else self.root
        if trace not in parent.parts:
            parent.parts.append(trace)


class TrackedLoader(loadwsgi.ConfigLoader):  # type: ignore[misc]  # PasteDeploy has no types
    """Paste's loader of one ini file.

    Raises:
        OSError, TextError, configparser.Error: the file cannot be read.
    """

    def __init__(self, path: str, tracker: Tracker) -> None:
        # Not the original's: that opens the file in the locale's encoding, and a % in the path breaks its interpolation.
        self.filename = path
        self._tracker = tracker
        defaults = {"here": _literal(str(Path(path).parent)), "__file__": _literal(path)}
        self.parser = loadwsgi.NicerConfigParser(path, defaults=defaults)
        self.parser.optionxform = str
        content = text.read(path)
        self.parser.read_string(content, source=path)
        self._lines = _section_lines(content)
        self._options = {name: set(values) for name, values in _sections_alone(self.parser).items()}

    def update_defaults(self, new_defaults: dict[str, str], overwrite: bool = True) -> None:
        """Take the globals of the file that uses this one, literally."""
        super().update_defaults({key: _literal(value) for key, value in new_defaults.items()}, overwrite)

    def get_context(self, object_type: Any, name: str | None = None, global_conf: Any = None) -> Any:
        """Return the context of a section, or of an absolute name such as `egg:Dist#name`."""
        if self.absolute_name(name):
            return self._absolute(object_type, str(name), global_conf)
        section = self.find_config_section(object_type, name=name)
        trace = self._trace(section)
        with self._tracker.inside(trace):
            self._check(section)
            context = super().get_context(object_type, name, global_conf)
            if isinstance(context.object, types.ModuleType):
                raise PipelineError(
                    f"{trace.uses} names a module: the factory in it is missing, as in {trace.uses}:factory"
                )
        self._watch(context, trace)
        return context

    def _absolute(self, object_type: Any, name: str, global_conf: Any) -> Any:
        scheme, _, rest = name.partition(":")
        if scheme.lower() != "config":
            return super().get_context(object_type, name, global_conf)
        path, _, section = rest.partition("#")
        other = TrackedLoader(os.path.normpath(Path(self.filename).parent / path), self._tracker)
        if global_conf:
            other.update_defaults(global_conf, overwrite=False)
        return other.get_context(object_type, section or "main", global_conf)

    def _trace(self, section: str) -> Trace:
        own = self._options.get(section, set())
        values = {key: self.parser.get(section, key, raw=True) for key in own}
        maker = ["pipeline", "use", *(key for key in sorted(values) if key.startswith("paste."))]
        uses = next((values[key] for key in maker if key in values), "")
        mounts = {key: value for key, value in values.items() if key not in maker}
        return Trace(self.filename, section, self._lines.get(section, 0), " ".join(uses.split()), mounts)

    def _check(self, section: str) -> None:
        own = self._options.get(section, set())
        if section.startswith("pipeline:") and "pipeline" in own and not self.parser.get(section, "pipeline").split():
            raise PipelineError(
                "its option pipeline is empty: it needs the names of filters and, last, of an application"
            )
        for option in sorted(own & set(self.parser._defaults)):  # noqa: SLF001 - the defaults uninterpolated, as the loader compares
            LOG.warning(
                "%s:%d: [%s]: the option %s is not passed on, for [DEFAULT] has one of that name too: write 'set %s = ...'",
                self.filename,
                self._lines.get(section, 0),
                section,
                option,
                option,
            )

    def _watch(self, context: Any, trace: Trace) -> None:
        create = context.create

        def watched() -> Any:
            self._tracker.adopt(trace)
            with self._tracker.inside(trace):
                made = create()
                if not callable(made):
                    raise PipelineError(f"{trace.uses or 'its factory'} made {made!r}, which is not callable")
            trace.made = made
            return self._watched_filter(made, trace) if context.object_type is loadwsgi.FILTER else made

        context.create = watched

    def _watched_filter(self, made: Any, trace: Trace) -> Any:
        def wrap(application: Any) -> Any:
            with self._tracker.inside(trace):
                trace.made = made(application)
                if not callable(trace.made):
                    raise PipelineError(f"{trace.uses or 'its factory'} made {trace.made!r}, which is not callable")
            return trace.made

        return wrap


def _literal(value: str) -> str:
    return value.replace("%", "%%") if isinstance(value, str) else value


def _sections_alone(parser: Any) -> dict[str, dict[str, str]]:
    """Return each section's own options, without those of [DEFAULT]."""
    return dict(parser._sections)  # noqa: SLF001 - ConfigParser's public views all mix the defaults in


def _section_lines(content: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    for number, line in enumerate(content.split("\n"), 1):
        if match := _SECTION_LINE.match(line):
            lines.setdefault(match[1], number)
    return lines
