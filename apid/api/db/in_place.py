"""Short reads of an SQLite file, done where they are asked for instead of in a native thread.

Handing work to a native thread and back costs more than the work where that is one look through an index. So a read that is
bounded (by its key, or by an index and a limit) is done where it is asked for. It must never wait there, for under eventlet
nothing else of the worker would run meanwhile: this connection has no patience (busy_timeout 0), and what it cannot do at once,
for whatever reason, is done again by the pool, with patience.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

T = TypeVar("T")


class BusyError(Exception):
    """Another thread reads."""


class InPlace:
    """One connection for one thread at a time."""

    def __init__(self, url: sa.URL, on_connect: Callable[..., None]) -> None:
        self._engine = sa.create_engine(
            url, poolclass=sa.NullPool, connect_args={"timeout": 0, "check_same_thread": False}
        )
        sa.event.listen(self._engine, "connect", on_connect)
        self._connection: sa.Connection | None = None
        self._one = threading.Lock()

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work`, which only reads, and little.

        Raises:
            BusyError, DBAPIError: it would have had to wait, or has failed otherwise; nothing has happened.
        """
        if not self._one.acquire(blocking=False):
            raise BusyError
        try:
            return self._read(work)
        finally:
            self._one.release()

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            result = work(self._connection)
        except exc.DBAPIError:
            self.close()
            raise
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.rollback()  # of SQLAlchemy's transaction; SQLite has none, each statement stands for itself
        return result

    def close(self) -> None:
        """Forget the connection; the next read makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
