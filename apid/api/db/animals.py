"""Animals in the database: each function takes a connection inside a transaction, and plain values. Nothing here knows HTTP."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from apid.api.db.tables import animals

Animal = dict[str, Any]

SORT_KEYS = ("created_at", "name", "species", "status", "updated_at", "id")


ALL = tuple(animals.c.keys())
BRIEF = ("id", "name")
"""What a page may be asked for: every column, or those of a list without details."""


SHORT = 100
"""Rows of a page that are few."""


class NameTakenError(Exception):
    """The project has an animal of this name."""


class StaleError(Exception):
    """The animal has changed since the revision that the caller knows."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def page(
    connection: sa.Connection,
    project: str | None,
    filters: Mapping[str, str],
    *,
    limit: int,
    marker: str | None = None,
    offset: int = 0,
    sort: Sequence[tuple[str, str]] = (),
    columns: tuple[str, ...] = ALL,
) -> list[Animal] | None:
    """One page of the animals of a project (all projects: None); None when the marker is no animal that may be seen."""
    order = [*sort]
    if not any(key == "created_at" for key, _ in order):
        order.append(("created_at", "asc"))
    if not any(key == "id" for key, _ in order):
        order.append(("id", "asc"))
    values: dict[str, Any] = {"the_limit": limit, "the_offset": offset, **_prefixed("is", filters)}
    if project is not None:
        values["is_project_id"] = project
    if marker is not None:
        last = find(connection, project, marker)
        if last is None:
            return None
        values |= _prefixed("last", {key: last[key] for key, _ in order})
    wanted = (*filters, "project_id") if project is not None else (*filters,)
    statement = _page(columns, wanted, tuple(order), marker is not None)
    return [dict(zip(columns, row, strict=True)) for row in connection.execute(statement, values)]


def is_short(
    project: str | None, filters: Mapping[str, str], *, limit: int, offset: int, sort: Sequence[tuple[str, str]]
) -> bool:
    """Whether a page costs the same however many animals there are: an index has its rows in its order."""
    ordered = not sort or sort[0] == ("created_at", "asc")
    return project is not None and not filters and not offset and limit <= SHORT and ordered and len(sort) <= 1


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in values.items()}


@functools.lru_cache(256)
def _page(
    columns: tuple[str, ...], filters: tuple[str, ...], order: tuple[tuple[str, str], ...], after: bool
) -> sa.Select[Any]:
    """The statement of a kind of page. Building one costs as much as running it, so it is kept; clients choose among few."""
    query = sa.select(*(animals.c[name] for name in columns))
    for name in filters:
        query = query.where(animals.c[name] == sa.bindparam(f"is_{name}"))
    if after:
        query = query.where(_after(order))
    for key, direction in order:
        column = animals.c[key]
        query = query.order_by(column.desc() if direction == "desc" else column.asc())
    integer = sa.Integer()
    return query.limit(sa.bindparam("the_limit", type_=integer)).offset(sa.bindparam("the_offset", type_=integer))


def _after(order: Sequence[tuple[str, str]]) -> sa.ColumnElement[bool]:
    """What comes after an animal in an order: equal in the first keys and past it in the next, for each key."""
    choices = []
    for place, (key, direction) in enumerate(order):
        equal = [animals.c[before] == sa.bindparam(f"last_{before}") for before, _ in order[:place]]
        last: sa.BindParameter[Any] = sa.bindparam(f"last_{key}")
        past = animals.c[key] < last if direction == "desc" else animals.c[key] > last
        choices.append(sa.and_(*equal, past))
    # What the choices have in common is said once more: PostgreSQL enters an index by it, by a disjunction it does not.
    first, direction = order[0]
    begin: sa.BindParameter[Any] = sa.bindparam(f"last_{first}")
    bound = animals.c[first] <= begin if direction == "desc" else animals.c[first] >= begin
    return sa.and_(bound, sa.or_(*choices))


_FIND = sa.select(*(animals.c[name] for name in ALL)).where(animals.c.id == sa.bindparam("is_id"))
_FIND_IN_PROJECT = _FIND.where(animals.c.project_id == sa.bindparam("is_project_id"))
_COUNT = sa.select(sa.func.count()).select_from(animals).where(animals.c.project_id == sa.bindparam("is_project_id"))


_ALONE = sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(sa.bindparam("the_key", type_=sa.Text()), 0)))
"""Until the end of the transaction."""

CLOSE = 1000
"""Animals below the quota from which they are counted one after another; more than are ever created at one instant."""


def find(connection: sa.Connection, project: str | None, id: str) -> Animal | None:  # noqa: A002 - the column's name
    """One animal of a project (any project: None), or None."""
    if "\0" in id:  # PostgreSQL's text cannot have it
        return None
    if project is None:
        row = connection.execute(_FIND, {"is_id": id}).first()
    else:
        row = connection.execute(_FIND_IN_PROJECT, {"is_id": id, "is_project_id": project}).first()
    return dict(zip(ALL, row, strict=True)) if row else None


def count(connection: sa.Connection, project: str) -> int:
    """How many animals a project has."""
    return int(connection.execute(_COUNT, {"is_project_id": project}).scalar_one())


def fits(connection: sa.Connection, project: str, quota: int) -> bool:
    """Whether a project may have one more; -1 is unlimited.

    What others create at this instant cannot be counted before they commit. SQLite has one writer at a time; elsewhere those
    who are close to the quota wait for each other, and nobody else does.
    """
    if quota < 0:
        return True
    used = count(connection, project)
    if connection.dialect.name == "postgresql" and quota - CLOSE < used < quota:
        connection.execute(_ALONE, {"the_key": project})
        used = count(connection, project)
    return used < quota


def create(connection: sa.Connection, project: str, values: Mapping[str, Any]) -> Animal:
    """Keep a new animal; it gets an id, times and revision 1.

    Raises:
        NameTakenError: the project has one of this name.
    """
    now = _now()
    animal = {
        "id": str(uuid.uuid4()),
        "project_id": project,
        "status": "available",
        "adopted_by": "",
        "tags": [],
        "revision": 1,
        "created_at": now,
        "updated_at": now,
        **values,
    }
    try:
        connection.execute(sa.insert(animals), animal)
    except exc.IntegrityError as error:
        raise NameTakenError from error
    return animal


def update(connection: sa.Connection, animal: Animal, values: Mapping[str, Any]) -> Animal:
    """Change an animal that was read in this or an earlier transaction, if nobody else has since.

    Raises:
        StaleError: somebody has, or it is gone. NameTakenError: the new name is another's.
    """
    changed = {**values, "revision": animal["revision"] + 1, "updated_at": _now()}
    same = sa.and_(animals.c.id == animal["id"], animals.c.revision == animal["revision"])
    try:
        done = connection.execute(sa.update(animals).where(same).values(**changed))
    except exc.IntegrityError as error:
        raise NameTakenError from error
    if done.rowcount != 1:
        raise StaleError
    return {**animal, **changed}


def delete(connection: sa.Connection, animal: Animal) -> None:
    """Forget an animal, if nobody has changed it since it was read.

    Raises:
        StaleError: somebody has.
    """
    same = sa.and_(animals.c.id == animal["id"], animals.c.revision == animal["revision"])
    if connection.execute(sa.delete(animals).where(same)).rowcount != 1:
        raise StaleError
