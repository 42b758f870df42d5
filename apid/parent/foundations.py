"""Warnings about configuration, code and interpreter of a root parent that other users can change.

Such a user gets the privileges of root at the next start, reload or upgrade: no boundary between workers and parent remains.
This is a warning and not an error, because a checkout in a home directory is common. Only lstat(2) is called.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from apid.conf import identity
from apid.conf.settings import Settings
from apid.loggers import logger
from apid.parent import program
from apid.posix import acting
from apid.posix.directories import MOST_LINKS

LOG = logger("apid.parent")

Step = tuple[str, os.stat_result]
"""A path, and what lstat(2) says of it."""


def warn(settings: Settings, said: set[str]) -> None:
    """Log each finding that is not in `said` yet, and put it there."""
    for text in findings(settings):
        if text not in said:
            said.add(text)
            LOG.warning("%s", text)


def findings(settings: Settings) -> list[str]:
    """Return a line for each path that others can change; nothing where this process is not root, or its workers are, too."""
    who = identity.of(settings.daemon.user, settings.daemon.group)
    if who is None or not acting.separate(who):
        return []
    groups = set(acting.groups(who))
    found: dict[str, str] = {}
    judged: set[str] = set()
    for what, steps in (*_configuration(settings), *_code()):
        for step, status in steps:
            if step in found:
                break
            if step in judged:
                continue
            judged.add(step)
            reason = _changeable(status, groups)
            if reason:
                found[step] = f"{step} ({reason}) can be changed by others, and the parent, which is root, {what}"
                break
    return [f"{text}: a change of it acts as root at the next start, reload or upgrade" for text in found.values()]


def _configuration(settings: Settings) -> Iterator[tuple[str, Iterable[Step]]]:
    for path in (*settings.files, *settings.directories):
        yield f"is configured by {path}", _way(path)
    if settings.log.log_config_append:
        path = settings.log.log_config_append
        yield f"executes {path}", _way(path)


def _code() -> Iterator[tuple[str, Iterable[Step]]]:
    for path in program.command_line()[:2]:
        if path.startswith("/"):
            yield f"executes {path}", _way(path)
    yield f"is set up by {sys.prefix}/pyvenv.cfg", _way(f"{sys.prefix}/pyvenv.cfg")
    modules = list(sys.modules.values())
    loaded = [getattr(module, name, None) for module in modules for name in ("__file__", "__cached__")]
    files = [Path(file) for file in loaded if file]
    directories = dict.fromkeys([*map(os.path.abspath, sys.path), *(str(file.parent) for file in files)])
    ways = {path: list(_way(path)) for path in directories}
    for path, way in ways.items():
        yield f"imports code from {path}", way
    for file in files:
        with contextlib.suppress(OSError):  # replaced since
            # where others can change the directory, that is named once instead of each file
            yield f"has imported {file}", [*ways[str(file.parent)], (str(file), file.lstat())]


def _way(path: str) -> Iterator[Step]:
    """Yield what the kernel looks up on the way to `path`, links included, with its status."""
    at, links, todo = "/", 0, path.split("/")[::-1]
    with contextlib.suppress(OSError):  # a missing entry can be made by those who can change the directory
        yield at, os.lstat(at)
        while todo:
            name = todo.pop()
            step = os.path.normpath(os.path.join(at, name))
            status = os.lstat(step)
            yield step, status
            if not stat.S_ISLNK(status.st_mode):
                at = step
            elif (links := links + 1) <= MOST_LINKS:
                target = str(Path(step).readlink())
                at = "/" if target.startswith("/") else at
                todo += target.split("/")[::-1]


def _changeable(status: os.stat_result, groups: set[int]) -> str:
    """Return who besides root can change a file, link or entry of a directory; empty: nobody can."""
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
    if status.st_uid not in (0, os.geteuid()):
        return f"owner {_name(status.st_uid)}, {mode}"
    if stat.S_ISLNK(status.st_mode) or (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
        return ""  # in a sticky directory the owner of the entry counts, which comes next
    if status.st_mode & stat.S_IWOTH:
        return f"owner {_name(status.st_uid)}, {mode}"
    if status.st_mode & stat.S_IWGRP and status.st_gid != 0 and (status.st_gid in groups or _members(status.st_gid)):
        return f"owner {_name(status.st_uid)}, group {status.st_gid}, {mode}"
    return ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _members(gid: int) -> Iterable[str]:
    try:
        return grp.getgrgid(gid).gr_mem
    except KeyError:
        return ()
