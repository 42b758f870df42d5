"""Short reads of an SQLite file, done where they are asked for instead of in a native thread.

Handing work to a native thread and back costs more than the work where that is one look through an index. So a read that is
bounded (by its key, or by an index and a limit) is done in the green thread itself. It must never wait there, for nothing else
of the worker would run meanwhile: this connection has no patience (busy_timeout 0), and what it cannot do at once, for whatever
reason, is done again in a thread, with patience.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

T = TypeVar("T")


class InPlace:
    """One connection for whoever runs: nothing in a read lets another green thread run, so it is one at a time without a lock."""

    def __init__(self, url: sa.URL, on_connect: Callable[..., None]) -> None:
        self._engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"timeout": 0})
        sa.event.listen(self._engine, "connect", on_connect)
        self._connection: sa.Connection | None = None

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work`, which only reads, and little.

        Raises:
            DBAPIError: it would have had to wait, or has failed otherwise; nothing has happened.
        """
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
