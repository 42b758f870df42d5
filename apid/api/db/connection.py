"""The database of one worker: its address, its pool, and where its work is done.

A Database is made when the pipeline is loaded, and its pool connects at the first use, which is after the fork in any case: no
connection is ever shared by two processes. A database over a network waits on sockets, which a green server turns into
waiting of that request alone. SQLite waits inside C, where nothing else can run: its work goes through `offload`, which the
daemon gives in the environ (`apid.offload`, a native thread of the worker's); under a server with real threads it is called.
What is too short for that is in_place.py's.
"""

from __future__ import annotations

import functools
import logging
import os
import select
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event, exc

from apid.api.db.in_place import BusyError, InPlace
from apid.api.db.pool import Stack
from apid.wsgi import faults

T = TypeVar("T")
LOG = logging.getLogger(__name__)

CONNECTION = "OS_DATABASE__CONNECTION"
"""The environment variable with the address; the daemon sets it from [database] connection."""

BUSY = 5.0
"""Seconds that SQLite waits for another process's write, and a request for a place in the pool."""

RETRY_AFTER = 5
"""Seconds after which a client may try again when the database is away."""

FRESH = 1.0
"""Seconds for which the answer of a health check holds: anybody may ask it, and each look is a connection of its own."""

REMINDER = 30.0
"""Seconds between two lines of the log about the same outage."""

PATIENCE = 2.0
"""Seconds that a health check waits for the database; less than load balancers wait for the health check."""

SHARED: list[Database] = []
"""The databases of the applications of this process, for the health check."""


class DatabaseDown(faults.Unavailable):
    """The database does not answer: 503, and the pool is emptied so that the next request opens a new connection."""

    def __init__(self) -> None:
        super().__init__(
            "The database is not available; try again later.",
            headers={"Retry-After": str(RETRY_AFTER)},
            error="database.unavailable",
        )


def default_url() -> str:
    """SQLite in the state directory: systemd's ($STATE_DIRECTORY), or that of the user (XDG Base Directory, 0.8)."""
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not state:
        home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        state = str(Path(home) / "apid")
    return f"sqlite:///{state}/apid.sqlite"


class Database:
    """Runs functions of a connection in transactions.

    Args:
        url: as SQLAlchemy spells it; SQLite in the state directory when empty.
        pool_size: connections at once, each worker for itself.

    Raises:
        ValueError: the address is none, or its driver is not installed.
    """

    def __init__(self, url: str = "", pool_size: int = 10) -> None:
        if not hasattr(select, "poll"):
            # A green server has left its own select() as the only way to wait. psycopg's C implementation would wait in C all
            # the same; told to, it leaves the waiting, and only that, to Python.
            os.environ.setdefault("PSYCOPG_WAIT_FUNC", "wait_select")
        try:
            self.url = sa.make_url(url or default_url())
            self.sqlite = self.url.get_backend_name() == "sqlite"
            self._in_memory = self.sqlite and self.url.database in (None, "", ":memory:")
            self.engine = sa.create_engine(self.url, **self._options(pool_size))
            self._reader = self.engine.execution_options(apid_write=False)  # the same pool
            self._probe = self._make_probe()
        except (exc.ArgumentError, ImportError) as error:
            raise ValueError(f"database address {url!r}: {error}") from error
        self._away_since = self._silent_until = 0.0
        self._available, self._looked = True, -FRESH
        self._in_place: InPlace | None = None
        self._first, self._connected = threading.Lock(), False
        event.listen(
            self.engine, "begin", functools.partial(_on_begin, statement="BEGIN IMMEDIATE" if self.sqlite else "BEGIN")
        )
        if self.sqlite:
            event.listen(self.engine, "connect", functools.partial(_on_connect, busy=BUSY))
            if not self._in_memory:
                self._in_place = InPlace(self.url, functools.partial(_on_connect, busy=0.0))

    def _options(self, pool_size: int) -> dict[str, Any]:
        if self.sqlite:
            # A connection may serve one native thread after another, never two at once: the pool sees to that.
            return {"poolclass": Stack, "connect_args": {"timeout": BUSY, "check_same_thread": False}}
        return {
            # Transactions are begun by us, where one is needed: a read without BEGIN and COMMIT waits for PostgreSQL once.
            "isolation_level": "AUTOCOMMIT",
            "poolclass": sa.QueuePool,
            "pool_size": pool_size,
            "max_overflow": 0,
            "pool_timeout": BUSY,
            "pool_use_lifo": True,
            "connect_args": self._patience(BUSY),
        }

    def _patience(self, seconds: float) -> dict[str, Any]:
        if self.url.get_backend_name() != "postgresql":
            return {"connect_timeout": int(seconds)}
        # Also a connection that was good must not wait for a machine that is gone as long as TCP does (15 minutes).
        return {
            "connect_timeout": int(seconds),
            "tcp_user_timeout": int(seconds * 2000),
            "keepalives_idle": 10,
            "keepalives_interval": 3,
            "keepalives_count": 3,
        }

    @property
    def missing(self) -> bool:
        """Whether it is an SQLite file that nobody has made yet."""
        return self.sqlite and not self._in_memory and not Path(str(self.url.database)).exists()

    def make_folder(self) -> None:
        """Make the folder of an SQLite file where there is none.

        Raises:
            OSError: it cannot be made.
        """
        if self.sqlite and not self._in_memory:
            Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)

    def read(self, environ: dict[str, Any], work: Callable[[sa.Connection], T]) -> T:
        """Run `work`, which only reads, each statement for itself.

        Raises:
            DatabaseDown: the database does not answer.
        """
        return self._run(environ, work, write=False)

    def look_up(self, environ: dict[str, Any], work: Callable[[sa.Connection], T]) -> T:
        """Run `work`, which reads what an index finds at once, however much there is; otherwise as `read`.

        Raises:
            DatabaseDown: the database does not answer.
        """
        if self._in_place is not None:
            try:
                return self._in_place.read(work)
            except (BusyError, exc.DBAPIError):
                LOG.debug("a short read has to wait; the pool does it")
        return self.read(environ, work)

    def write(self, environ: dict[str, Any], work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction that may write; it is kept when this returns.

        Raises:
            DatabaseDown: the database does not answer, or is busy for too long.
        """
        return self._run(environ, work, write=True)

    def _run(self, environ: dict[str, Any], work: Callable[[sa.Connection], T], *, write: bool) -> T:
        offload: Callable[..., T] | None = environ.get("apid.offload") if self.sqlite else None
        try:
            if offload is None:
                result = self._transact(work, write)
            elif self._connected:
                result = offload(self._transact, work, write)
            else:
                # SQLAlchemy makes the first connection under a lock of `threading`. Under eventlet that is a green one, where
                # native threads wait for each other without end: until there is a connection, they go one by one.
                with self._first:
                    result = offload(self._transact, work, write)
                    self._connected = True
        except exc.DataError as error:
            raise faults.BadRequest("A value is too long, or has characters that the database cannot keep.") from error
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            self._note(error)
            raise DatabaseDown from error
        if self._away_since:
            LOG.info("the database is available again, after %.0f s", time.monotonic() - self._away_since)
            self._away_since = 0.0
        return result

    def _note(self, error: Exception) -> None:
        """Log an outage when it begins and every REMINDER seconds while it lasts; requests are too many to log it for each.

        The driver's text may name hosts and users: it is for the log, the client gets the sentence.
        """
        now = time.monotonic()
        level = logging.DEBUG
        if now >= self._silent_until:
            level, self._silent_until = logging.WARNING, now + REMINDER
            self._away_since = self._away_since or now
        LOG.log(level, "the database is not available: %s", str(error.__cause__ or error).strip())

    def _transact(self, work: Callable[[sa.Connection], T], write: bool) -> T:
        try:
            return self._once(work, write)
        except _BrokenError:
            # SQLAlchemy has dropped every connection from before: the second try gets one that is new.
            try:
                return self._once(work, write)
            except _BrokenError as error:
                raise error.cause from None

    def _once(self, work: Callable[[sa.Connection], T], write: bool) -> T:
        """Run `work`, in a transaction where it writes.

        Raises:
            _BrokenError: the connection was lost before the commit was asked for, so surely nothing is kept.
        """
        with (self.engine if write else self._reader).connect() as connection:  # which rolls back what is not committed
            try:
                if write:
                    connection.begin()
                result = work(connection)
            except exc.DBAPIError as error:
                if error.connection_invalidated:
                    raise _BrokenError(error) from error
                raise
            if write:
                connection.commit()
            return result

    def available(self, environ: dict[str, Any]) -> bool:
        """Whether the database answers, or did within the last FRESH seconds; who asks meanwhile gets the answer before."""
        if time.monotonic() >= self._looked + FRESH:
            self._looked = time.monotonic()
            try:
                self.ping(environ)
                self._available = True
            except DatabaseDown:
                self._available = False
        return self._available

    def ping(self, environ: dict[str, Any]) -> None:
        """See whether the database answers and has a schema, on a connection of its own.

        A new connection, because an SQLite file that is gone, and a pool that has no place, cannot be told by an old one.

        Raises:
            DatabaseDown: it does not, or not within PATIENCE.
        """
        offload = environ.get("apid.offload") if self.sqlite else None
        try:
            if offload is not None:
                offload(self._look)
            else:
                self._look()
        except exc.SQLAlchemyError as error:
            self._note(error)
            raise DatabaseDown from error

    def dispose(self) -> None:
        """Close every connection that is not in use."""
        self.engine.dispose()
        if self._in_place is not None:
            self._in_place.close()

    def _look(self) -> None:
        if self._in_memory:
            return
        with self._probe.connect() as connection:
            connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    def _make_probe(self) -> sa.Engine:
        if not self.sqlite:
            return sa.create_engine(self.url, poolclass=sa.NullPool, connect_args=self._patience(PATIENCE))
        file = f"file:{quote(str(self.url.database))}?mode=rw"  # a file that is missing is not made
        return sa.create_engine(
            "sqlite://", poolclass=sa.NullPool, creator=lambda: sqlite3.connect(file, timeout=PATIENCE, uri=True)
        )


class _BrokenError(Exception):
    def __init__(self, cause: exc.DBAPIError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@functools.cache
def shared(url: str, pool_size: int) -> Database:
    """The one Database of this process for an address: an application that is mounted twice has one pool.

    Raises:
        ValueError: as Database does.
    """
    made = Database(url, pool_size)
    SHARED.append(made)
    return made


def _on_connect(connection: Any, _record: object, *, busy: float) -> None:
    """Set a new SQLite connection up; transactions are begun by us, not by the driver (SQLAlchemy's note on pysqlite)."""
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {int(busy * 1000)}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _on_begin(connection: sa.Connection, *, statement: str) -> None:
    """Begin what may write; in SQLite with the lock, so that it waits instead of failing half-way (SQLITE_BUSY_SNAPSHOT)."""
    if connection.get_execution_options().get("apid_write", True):
        connection.exec_driver_sql(statement)
