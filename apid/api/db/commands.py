"""`apidctl db`: the schema of the default API's database. Found by the entry point group `apidctl.commands`."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import exc

from apid.api.db import migrate
from apid.api.db.connection import Database
from apid.api.db.tables import SCHEMA


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
    folder = Path(str(path)).resolve().parent
    for each in (folder, *folder.parents):
        if each.exists():
            found = each.stat()
            if found.st_uid != 0 or (found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX):
                text = f"root does not open a database in {each}, which others can change (owner {found.st_uid}, mode "
                raise ValueError(f"{text}{stat.S_IMODE(found.st_mode):04o}): run this command as the workers' user")
