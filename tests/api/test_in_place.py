"""Short reads of SQLite are done at once, and never wait there: what would have to wait is done in a thread."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from apid.api.db import animals, migrate
from apid.api.db.connection import Database


class Threads:
    """`apid.offload`, counted."""

    def __init__(self):
        self.calls = 0
        self.meanwhile = lambda: None

    def __call__(self, function, *args):
        self.calls += 1
        self.meanwhile()
        return function(*args)


@pytest.fixture
def database(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/zoo.sqlite")
    migrate.upgrade(made)
    yield made
    made.dispose()


@pytest.fixture
def threads():
    return Threads()


def count(connection):
    return animals.count(connection, "p")


def test_a_short_read_needs_no_thread_and_sees_what_was_just_written(database, threads):
    environ = {"apid.offload": threads}
    for expected in range(3):
        assert database.look_up(environ, count) == expected
        database.write({}, lambda c, n=expected: animals.create(c, "p", {"name": f"n{n}", "species": "dog"}))
    assert threads.calls == 0
    assert database._in_place._connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 0


def test_one_at_a_time_and_the_pool_has_the_others(database):
    connections = []

    def seen(connection):
        connections.append(connection)
        return count(connection)

    def work(connection):
        with ThreadPoolExecutor(1) as other:
            assert other.submit(database.look_up, {}, seen).result(10) == 0
        return seen(connection)

    assert database.look_up({}, work) == 0
    with ThreadPoolExecutor(1) as other:  # a connection is no thread's
        assert other.submit(database.look_up, {}, seen).result(10) == 0
    assert [one is database._in_place._connection for one in connections] == [False, True, True]


def test_what_would_have_to_wait_is_done_in_a_thread(database, threads, tmp_path):
    environ = {"apid.offload": threads}
    assert database.look_up(environ, count) == 0
    database.dispose()
    other = sqlite3.connect(tmp_path / "zoo.sqlite", isolation_level=None)
    for statement in ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "DELETE FROM animals"):
        other.execute(statement)

    threads.meanwhile = other.close
    assert database.look_up(environ, count) == 0
    assert threads.calls == 1
    assert database.look_up(environ, count) == 0
    assert threads.calls == 1


def test_what_the_work_raises_is_raised_and_the_connection_stays(database, threads):
    def breaks(connection):
        count(connection)
        raise KeyError("no such animal")

    environ = {"apid.offload": threads}
    database.look_up(environ, count)
    kept = database._in_place._connection
    with pytest.raises(KeyError):
        database.look_up(environ, breaks)
    assert database.look_up(environ, count) == 0
    assert database._in_place._connection is kept
    assert threads.calls == 0


@pytest.mark.parametrize(
    ("asked", "short"),
    [
        ({}, True),
        ({"sort": (("created_at", "asc"),)}, True),
        ({"limit": animals.SHORT + 1}, False),
        ({"offset": 1}, False),
        ({"project": None}, False),
        ({"filters": {"species": "dog"}}, False),
        ({"sort": (("name", "asc"),)}, False),
        ({"sort": (("created_at", "desc"),)}, False),
        ({"sort": (("created_at", "asc"), ("name", "asc"))}, False),
    ],
)
def test_which_pages_are_short(asked, short):
    usual = {"project": "p", "filters": {}, "limit": 20, "offset": 0, "sort": ()}
    usual |= asked
    assert animals.is_short(usual.pop("project"), usual.pop("filters"), **usual) is short


@pytest.mark.parametrize("marker", [False, True])
def test_a_short_page_is_read_along_its_index(database, marker):
    made = [
        database.write({}, lambda c, n=n: animals.create(c, "p", {"name": f"n{n}", "species": "dog"})) for n in "abc"
    ]
    statements = []

    def plan(connection):
        execute = connection.execute

        class Spy:
            def execute(self, statement, values):
                statements.append((statement, values))
                return execute(statement, values)

        found = animals.page(Spy(), "p", {}, limit=2, marker=made[0]["id"] if marker else None)
        assert [animal["name"] for animal in found] == (["nb", "nc"] if marker else ["na", "nb"])
        statement, values = statements[-1]
        text = str(statement.compile(connection))
        names = statement.compile(connection).positiontup
        return connection.exec_driver_sql("EXPLAIN QUERY PLAN " + text, tuple(values[name] for name in names)).all()

    steps = [row[-1] for row in database.read({}, plan)]
    assert len(steps) == 1, steps
    assert "USING INDEX ix_animals_project_created" in steps[0]
