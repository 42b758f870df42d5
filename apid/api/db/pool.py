"""The connections to an SQLite file that a worker has open, kept for the next who needs one."""

from __future__ import annotations

import collections
from typing import Any

from sqlalchemy import pool


class Stack(pool.Pool):
    """A pool without a lock and without a limit: the last connection that came back goes out first.

    SQLAlchemy's QueuePool waits on locks of `threading`. A green server replaces these by its own, which must not be touched from
    the native threads where SQLite's work is done ("Cannot switch to a different thread"). Nothing has to wait here: there are
    never more connections out than threads that work, and append and pop of a deque are atomic.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._free: collections.deque[pool.ConnectionPoolEntry] = collections.deque()

    def _do_get(self) -> Any:
        try:
            return self._free.pop()
        except IndexError:
            return self._create_connection()

    def _do_return_conn(self, record: pool.ConnectionPoolEntry) -> None:
        self._free.append(record)

    def dispose(self) -> None:
        """Close what is not out."""
        while self._free:
            try:
                self._free.pop().close()
            except IndexError:  # another thread took the last one
                return

    def recreate(self) -> Stack:
        """A new one like this, empty; what is out comes back to the old one."""
        return self.__class__(
            self._creator,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )

    def status(self) -> str:
        """How many wait to be used."""
        return f"{len(self._free)} connections free"
