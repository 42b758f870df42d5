"""`apid init NAME`: writes a new API project to start from. Its files lie in new_project/, with `${name}` where the name goes."""

from __future__ import annotations

import argparse
import importlib.resources
import keyword
import shutil
import string
import sys
from collections.abc import Iterator, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

from apid.errors import ApidError, ConfigError

_NAMES = {"gitignore": ".gitignore", "unit.service": "{name}.service", "package": "{name}"}
"""What a template is called in the project, where that is not its own name."""


class _NotWrittenError(ApidError):
    """The project could not be written."""

    exit_code = ConfigError.exit_code


def init(argv: Sequence[str]) -> int:
    """Run `apid init` with the arguments after `init`; returns 0.

    Raises:
        ApidError: the name is no identifier, the folder exists, or it cannot be written: nothing is left behind.
    """
    parser = argparse.ArgumentParser(
        prog="apid init", description="Write a new API project: package, pipeline, configuration, tests, unit."
    )
    parser.add_argument("name", metavar="NAME", help="of the project and its package, such as zoo or my_api")
    parser.add_argument("--dir", metavar="D", type=Path, help="the folder to make; NAME in this folder by default")
    args = parser.parse_args(argv)
    name: str = args.name
    _check(name)
    target: Path = args.dir if args.dir is not None else Path(name)
    if target.exists() or target.is_symlink():
        raise _NotWrittenError(f"{target} exists already; nothing was written")
    _write(name, target)
    print(f"apid: wrote {target}; next: cd {target}, then apid --config-file apid.conf")  # noqa: T201 - its output
    return 0


def _check(name: str) -> None:
    if keyword.iskeyword(name):
        why = "is a word of Python's grammar"
    elif not name.isidentifier() or not name.isascii() or name != name.lower():
        why = "must be lower-case letters, digits and underscores, and begin with no digit"
    elif name in sys.stdlib_module_names or name in ("apid", "test", "tests", "systemd"):
        why = "is taken"
    else:
        return
    raise _NotWrittenError(f"the name {name!r} {why}; nothing was written")


def _write(name: str, target: Path) -> None:
    """Write all files beside the target first, so that the folder is there whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    try:
        part.mkdir(parents=True)
        for path, text in _rendered(importlib.resources.files("apid.cli") / "new_project", name):
            file = part / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        part.rename(target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise _NotWrittenError(f"cannot write {target}: {error.strerror}") from error


def _rendered(folder: Traversable, name: str, at: Path = Path()) -> Iterator[tuple[Path, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _rendered(entry, name, at / _NAMES.get(entry.name, entry.name).format(name=name))
        elif entry.name.endswith(".in"):
            bare = entry.name.removesuffix(".in")
            text = string.Template(entry.read_text(encoding="utf-8")).substitute(name=name)
            yield at / _NAMES.get(bare, bare).format(name=name), text
