"""`apidctl db`: the schema of the default API's database. Found by the entry point group `apidctl.commands`."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import exc

from apid.api.db import migrate
from apid.api.db.connection import Database
from apid.api.db.tables import SCHEMA

_MOST_LINKS = 40  # Linux follows no more (symlink(7))


def db(argv: Sequence[str], connection: str) -> str:
    """Run `apidctl db ...`; returns what is to be printed.

    Args:
        argv: after `db`.
        connection: the address, from the daemon's configuration; empty: the default.

    Raises:
        ValueError: it could not be done; the text says why.
    """
    parser = argparse.ArgumentParser(prog="apidctl db", description="The schema of the default API's database.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("upgrade", help="bring the schema to the version that this program needs")
    commands.add_parser("version", help="print the version of the schema")
    commands.add_parser("check", help="exit code 0 if the schema is the one that this program needs")
    args = parser.parse_args(argv)
    database = Database(connection)
    shown = database.url.render_as_string(hide_password=True)
    try:
        _refuse_as_root(database)
        if args.command == "version":
            return migrate.version(database) or "none"
        if args.command == "check":
            migrate.check(database)
            return f"{shown}: schema {SCHEMA}, as needed"
        before = migrate.version(database)
        migrate.upgrade(database)
        return f"{shown}: schema {before or 'none'} -> {migrate.version(database)}"
    except exc.SQLAlchemyError as error:
        raise ValueError(f"{shown}: {error.__cause__ or error}") from error
    except (migrate.SchemaError, OSError) as error:
        raise ValueError(f"{shown}: {error}") from error
    finally:
        database.dispose()


def _refuse_as_root(database: Database) -> None:
    """Refuse, as root, an SQLite file that another user could exchange for a link: root would write to its target."""
    path = database.url.database
    if os.geteuid() != 0 or not database.sqlite or path in (None, "", ":memory:"):
        return
    if str(path).startswith("file:"):  # a URI of SQLite's
        path = unquote(urlsplit(path).path)
    folder = _open_to_others(Path.cwd() / str(path))
    if folder is not None:
        found = folder.stat()
        text = f"root does not open a database in {folder}, which others can change (owner {found.st_uid}, mode "
        raise ValueError(f"{text}{stat.S_IMODE(found.st_mode):04o}): run this command as the workers' user")


def _open_to_others(path: Path) -> Path | None:
    """Return the first directory on the way to a file in which another user than root could put a link, or None.

    Links are followed one by one, because the directory that holds a link counts as well as the one that it leads to. A sticky
    directory on the way is safe if the next directory is root's. The last one may not be sticky: others could make the journal.
    """
    at, left, links = Path("/"), list(path.parts[1:]), 0
    while left:
        name = left.pop(0)
        if name == "..":
            at = at.parent
            continue
        entry = at / name
        if not at.exists():
            return None  # root makes it
        found = at.stat()
        sticky = left and found.st_mode & stat.S_ISVTX and os.path.lexists(entry) and entry.lstat().st_uid == 0
        if found.st_uid != 0 or (found.st_mode & 0o022 and not sticky):
            return at
        if entry.is_symlink() and links < _MOST_LINKS:
            links += 1
            target = entry.readlink()
            at = Path("/") if target.is_absolute() else at
            left = [part for part in target.parts if part != "/"] + left
        else:
            at = entry
    return None
