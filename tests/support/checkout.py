"""The files of this checkout, elsewhere: pip writes into the directory that it builds from, while other tests read there."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]


def copy(directory: pathlib.Path) -> pathlib.Path:
    """Put all files that git knows, as they are now, into a directory that does not exist yet; returns it."""
    directory.mkdir()
    stash = subprocess.run(["git", "stash", "create"], cwd=TOP, capture_output=True, text=True, check=True)
    tree = stash.stdout.strip() or "HEAD"
    archive = subprocess.run(["git", "archive", tree], cwd=TOP, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", directory], input=archive, check=True)
    return directory


def editable(directory: pathlib.Path) -> pathlib.Path:
    """As `copy`, for an editable installation: the package is the one of this checkout, whatever becomes of it."""
    shutil.rmtree(directory, ignore_errors=True)
    copy(directory)
    shutil.rmtree(directory / "apid")
    (directory / "apid").symlink_to(TOP / "apid")
    return directory
