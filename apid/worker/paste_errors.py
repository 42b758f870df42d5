"""What went wrong with a pipeline, in one sentence for the operator; the exceptions come from paste_loader and from factories."""

from __future__ import annotations

import configparser
import difflib
import importlib.metadata
import re
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path

from apid.conf.text import TextError
from apid.errors import PipelineError
from apid.worker.paste_loader import Trace

_NO_SECTION = re.compile(r"No section '([^']+)' \(prefixed by (.+)\) found in config (.+)", re.DOTALL)
_PASTE = "/paste/deploy/"
_STDLIB = sysconfig.get_path("stdlib") + "/"
_NO_KEYWORD = re.compile(r"got an unexpected keyword argument '([^']+)'")


def pipeline_error(path: str, cause: BaseException, way: Sequence[Trace], names: Sequence[str]) -> PipelineError:
    """Return the error of one pipeline.

    Args:
        path: of the file asked for.
        cause: as raised.
        way: the sections on the way, the outermost first.
        names: of all sections of the file, to find the one that was meant.
    """
    option = _option_of(cause)
    line = _option_line(way[-1], option) if way else 0
    place = f"{way[-1].path}:{line}: [{way[-1].section}]" if way else path
    above = " > ".join(f"[{each.section}]" for each in way[:-1])
    words = " ".join(sentence(cause, way, names).split())  # one line, whatever the application put into its exception
    text = f"{place}{f' (in {above})' if above else ''}: {words}"
    ours = isinstance(cause, PipelineError) or bool(option) or not _raised_by_application(cause)
    return PipelineError(text, "" if ours else "".join(traceback.format_exception(cause)))


def sentence(cause: BaseException, way: Sequence[Trace], names: Sequence[str]) -> str:
    """Return the cause in words."""
    uses = way[-1].uses if way else ""
    if isinstance(cause, PipelineError) or _option_of(cause):
        return str(cause)
    if isinstance(cause, SystemExit):
        return f"{uses} ended the program (SystemExit: {cause.code}); what it printed says why"
    if not _raised_by_application(cause):
        known = _bad_file(cause, way) or _paste_said(cause, uses, names)
        if known:
            return known
    if isinstance(cause, ModuleNotFoundError):
        return f"{uses} cannot be imported: {cause}"
    said = str(cause).strip()
    return f"{uses + ' failed: ' if uses else ''}{type(cause).__name__}{': ' + said if said else ''}"


def _option_of(cause: BaseException) -> str:
    """The option that an exception is about, where a factory says so as the toolkit's do; its text then says everything."""
    option = getattr(cause, "option", "") if hasattr(cause, "filter_name") else ""
    return option if isinstance(option, str) else ""


def _option_line(section: Trace, option: str) -> int:
    """The line of an option in its section; the section's own where it is not found (missing, or from another section)."""
    assigned = re.compile(rf"{re.escape(option)}\s*[=:]")
    lines = Path(section.path).read_text(encoding="utf-8").split("\n") if option else []
    for number, line in enumerate(lines[section.line :], section.line + 1):
        if line.startswith("["):
            break
        if assigned.match(line.removeprefix("set ")):
            return number
    return section.line


def _bad_file(cause: BaseException, way: Sequence[Trace]) -> str | None:
    """Return words for an ini file that cannot be read or parsed."""
    if isinstance(cause, configparser.Error):
        return _bad_ini(cause)
    if isinstance(cause, TextError):
        return f"{'a file that it uses: ' if way else ''}{cause}"
    if isinstance(cause, OSError):
        return f"{cause.filename if way else 'the file'} cannot be read: {cause.strerror or cause}"
    return None


def _paste_said(cause: BaseException, uses: str, names: Sequence[str]) -> str | None:
    """Return better words for what Paste Deploy itself raises; None where its own will do."""
    said = str(cause)
    if isinstance(cause, importlib.metadata.PackageNotFoundError):
        return _not_installed(str(cause.name), uses)
    if match := _NO_SECTION.search(said):
        return _no_section(match[1], re.findall(r"'([^']+)'", match[2]), names)
    if "No loader given" in said:
        return "it says neither what to use (use = ...) nor which factory makes it (paste.app_factory = package.module:name)"
    if isinstance(cause, KeyError):
        return f"'get' asks for {said}, and neither [DEFAULT] nor a 'set' gives it"
    if isinstance(cause, TypeError) and (match := _NO_KEYWORD.search(said)):
        return f"{uses} takes no option {match[1]}"
    if isinstance(cause, TypeError):
        return f"{uses} cannot be called with these options: {said}"
    if isinstance(cause, AttributeError):
        return f"{uses} does not exist: {said}"
    if isinstance(cause, LookupError):
        return said.strip("'\"")
    return None


def _no_section(name: str, prefixes: Sequence[str], names: Sequence[str]) -> str:
    wanted = [f"[{prefix}:{name}]" for prefix in prefixes if prefix not in ("application", "composit")]
    near = difflib.get_close_matches(name, [each.partition(":")[2].strip() for each in names], 1)
    hint = f"; did you mean {near[0]}?" if near and near[0] != name else ""
    other = [each for each in names if each.partition(":")[2].strip() == name]
    if other:
        hint = f"; there is [{other[0]}], which is of another kind"
    return f"there is no section {' or '.join(wanted)}{hint}"


def _not_installed(name: str, uses: str) -> str:
    if name.lower() == "paste" and uses.endswith("#urlmap"):
        return f"{uses} needs the package Paste: install it, or write egg:apid#urlmap, which takes the same lines"
    return f"{uses or name}: no package {name} is installed"


def _bad_ini(cause: configparser.Error) -> str:
    line = getattr(cause, "lineno", None)
    where = f"line {line}: " if line else ""
    if isinstance(cause, configparser.DuplicateOptionError):
        return f"{where}the option {cause.option} stands twice in [{cause.section}]"
    if isinstance(cause, configparser.DuplicateSectionError):
        return f"{where}the section [{cause.section}] stands twice"
    if isinstance(cause, configparser.MissingSectionHeaderError):
        return f"{where}{cause.line.strip()!r} stands before any [section]"
    if isinstance(cause, configparser.ParsingError):
        # Until Python 3.12 the errors hold the repr of each line, from 3.13 the line itself.
        lines = [(number, text.strip("'\"").removesuffix("\\n").strip()) for number, text in cause.errors]
        return "; ".join(f"line {number}: no option and no section: {text}" for number, text in lines)
    if isinstance(cause, configparser.InterpolationMissingOptionError):
        return f"the option {cause.option} asks for %({cause.reference})s, which is not defined"
    if isinstance(cause, configparser.InterpolationSyntaxError):
        return f"the option {cause.option} holds a stray %: write %% for a percent sign"
    if isinstance(cause, configparser.InterpolationDepthError):
        return f"the option {cause.option} refers to itself"
    return str(cause)


def _raised_by_application(cause: BaseException) -> bool:
    """Tell whether a factory, or a module while it was imported, raised it; and not Paste Deploy on its way there."""
    frames = traceback.extract_tb(cause.__traceback__)
    calls = [index for index, frame in enumerate(frames) if frame.name == "fix_call"]
    inner = frames[calls[-1] + 1 :] if calls else frames
    if not inner:  # the call itself failed: the options do not fit the factory
        return False
    loaders = [
        index
        for index, frame in enumerate(inner)
        if _PASTE in frame.filename or frame.filename.endswith(("/paste_loader.py", "/conf/text.py"))
    ]
    return not loaders or any(not _of_python(frame.filename) for frame in inner[loaders[-1] + 1 :])


def _of_python(file: str) -> bool:
    return file.startswith("<frozen") or (file.startswith(_STDLIB) and "-packages/" not in file)
