"""The schema's versions: where the database stands, and bringing it to the newest by Alembic.

Alembic takes a third of a second to load and is only needed for a change: functions that change load it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from apid.api.db.connection import Database
from apid.api.db.tables import SCHEMA

SCRIPTS = str(Path(__file__).parent / "migrations")


class SchemaError(Exception):
    """The schema is not the one that this program needs; the text says what to do."""


def version(database: Database) -> str:
    """The version of the schema in the database (Alembic's own record); empty when there is none yet."""
    if database.missing:
        return ""  # looking must not make a file
    with database.engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return ""
        return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() or "")


def upgrade(database: Database) -> None:
    """Bring the schema to the newest version, in one transaction.

    Raises:
        SchemaError: it is newer than this program. OSError: the folder of an SQLite file cannot be made.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # before it loads, which it logs
    from alembic import command, config

    database.make_folder()
    _not_newer(version(database))
    settings = config.Config()
    settings.set_main_option("script_location", SCRIPTS.replace("%", "%%"))
    with database.engine.connect() as connection, connection.begin():
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")


def known() -> list[str]:
    """The versions that this program has migrations for, the newest first."""
    from alembic import script

    return [one.revision for one in script.ScriptDirectory(SCRIPTS).walk_revisions()]


def check(database: Database) -> None:
    """Refuse a schema that is not the newest.

    Raises:
        SchemaError: it is older, newer or missing; the text says which command mends it.
    """
    found = version(database)
    if found == SCHEMA:
        return
    _not_newer(found)
    raise SchemaError(
        f"the database has {f'schema {found}' if found else 'no schema'}, this program needs {SCHEMA}: run apidctl db upgrade"
    )


def _not_newer(found: str) -> None:
    if found and found not in known():
        raise SchemaError(f"the database has schema {found}, which is newer than this program (it knows {SCHEMA})")


def prepare_sqlite(database: Database) -> None:
    """Bring an SQLite file to the newest version at a start; workers that boot at once wait for each other."""
    database.make_folder()
    with _alone(database):
        if version(database) != SCHEMA:
            upgrade(database)


@contextlib.contextmanager
def _alone(database: Database) -> Iterator[None]:
    path = database.url.database
    if not path or path == ":memory:":
        yield
        return
    # Never truncated, and no link is followed: another user who may write to the folder may have made it.
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # goes with the process, also after kill -9
        yield
    finally:
        os.close(lock)
