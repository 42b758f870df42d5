"""The schema: migrations make what the tables say, from nothing and by several at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest
import sqlalchemy as sa

from apid.api.db import commands, migrate
from apid.api.db.connection import Database
from apid.api.db.tables import SCHEMA, metadata


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/deep/zoo.sqlite"


def test_the_newest_migration_is_the_one_the_program_names(url):
    assert migrate.known()[0] == SCHEMA
    database = Database(url)
    migrate.upgrade(database)
    assert migrate.version(database) == SCHEMA
    database.dispose()


def test_migrations_make_what_the_tables_say(url):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(url)
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.dispose()


def test_workers_that_boot_at_once_prepare_it_once(url):
    code = "import sys; from apid.api.db import connection, migrate; migrate.prepare_sqlite(connection.Database(sys.argv[1]))"
    running = [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]


def test_the_command_tells_upgrades_and_checks(url, tmp_path):
    assert commands.db(["version"], url) == "none"
    with pytest.raises(ValueError, match=r"has no schema.*apidctl db upgrade"):
        commands.db(["check"], url)
    assert list(tmp_path.iterdir()) == []  # who only looks makes nothing
    assert commands.db(["upgrade"], url).endswith(f"schema none -> {SCHEMA}")
    assert commands.db(["upgrade"], url).endswith(f"schema {SCHEMA} -> {SCHEMA}")
    assert "as needed" in commands.db(["check"], url)
    database = Database(url)
    with database.engine.connect() as connection, connection.begin():
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database.dispose()
    for command in ("check", "upgrade"):
        with pytest.raises(ValueError, match="newer than this program"):
            commands.db([command], url)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"zoo\.sqlite: .*file"):
        commands.db(["upgrade"], f"sqlite:///{tmp_path}/file/zoo.sqlite")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
@pytest.mark.parametrize("command", ["upgrade", "version", "check"])
@pytest.mark.parametrize("above", [False, True], ids=["the folder", "one above"])
def test_root_opens_no_database_where_another_user_can_plant_a_link(tmp_path, url, command, above):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "zoo.sqlite.lock").symlink_to(tmp_path / "precious")
    os.chown(tmp_path if above else tmp_path / "deep", 54321, 54321)
    with pytest.raises(
        ValueError, match=r"which others can change \(owner 54321, mode 07\d\d\): run this command as the"
    ):
        commands.db([command], url)
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["zoo.sqlite.lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
@pytest.mark.parametrize(
    "way",
    ["theirs/zoo.sqlite", "theirs/sub/zoo.sqlite", "first/sub/zoo.sqlite", "safe/up/zoo.sqlite", "sticky/zoo.sqlite"],
)
def test_root_follows_no_link_of_another_user_to_a_database(tmp_path, way):
    """Where the link leads is safe; who made it is not."""
    safe, theirs, sticky = (tmp_path / name for name in ("safe", "theirs", "sticky"))
    for each in (safe, theirs, sticky):
        each.mkdir()
    sticky.chmod(0o1777)
    (theirs / "zoo.sqlite").symlink_to(safe / "planted")
    (theirs / "sub").symlink_to(safe)
    (tmp_path / "first").symlink_to("theirs")
    (safe / "up").symlink_to("../theirs/sub")
    os.chown(theirs, 54321, 54321)
    for address in (f"sqlite:///{tmp_path}/{way}", f"sqlite:///file:{tmp_path}/{way}?uri=true"):
        with pytest.raises(ValueError, match=r"which others can change"):
            commands.db(["upgrade"], address)
    assert [each.name for each in safe.iterdir()] == ["up"]


@pytest.mark.skipif(os.geteuid() != 0, reason="for root only")
def test_root_follows_links_of_its_own_to_a_database(tmp_path):
    (tmp_path / "safe").mkdir()
    (tmp_path / "sub").symlink_to("safe/../safe")
    assert "none -> " in commands.db(["upgrade"], f"sqlite:///{tmp_path}/sub/zoo.sqlite")
    assert (tmp_path / "safe" / "zoo.sqlite").exists()


@pytest.mark.parametrize("link", [True, False], ids=["a link", "a hard link"])
def test_the_lock_beside_a_database_cuts_no_file(tmp_path, url, link):
    (tmp_path / "deep").mkdir()
    precious, lock = tmp_path / "precious", tmp_path / "deep" / "zoo.sqlite.lock"
    precious.write_text("precious")
    lock.symlink_to(precious) if link else lock.hardlink_to(precious)
    database = Database(url)
    with pytest.raises(OSError, match="Too many levels") if link else contextlib.nullcontext():
        migrate.prepare_sqlite(database)
    database.dispose()
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("address", ["nonsense", "nosuchdb://x/y", "mysql+nosuchdriver://x/y"])
def test_an_address_that_is_none_names_itself(address):
    with pytest.raises(ValueError, match="database address"):
        Database(address)
