"""The animals API as one would write it with Flask and SQLAlchemy: list, show, create, as much validation as these need."""

from __future__ import annotations

import datetime as dt
import os
import uuid

import flask
import sqlalchemy as sa
from sqlalchemy import event, orm


class Base(orm.DeclarativeBase):
    """The tables."""


class Animal(Base):
    """The same table as the default API's."""

    __tablename__ = "animals"
    id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True)
    project_id: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    name: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    species: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    status: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    adopted_by: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    tags: orm.Mapped[list[str]] = orm.mapped_column(sa.JSON)
    revision: orm.Mapped[int]
    created_at: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    updated_at: orm.Mapped[str] = orm.mapped_column(sa.String(32))


engine = sa.create_engine(os.environ["OS_DATABASE__CONNECTION"], pool_size=10)
session = orm.scoped_session(orm.sessionmaker(engine))
app = flask.Flask(__name__)

if engine.dialect.name == "sqlite":

    @event.listens_for(engine, "connect")
    def _connect(connection, _):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA busy_timeout = 5000")


@app.teardown_appcontext
def _remove(_):
    session.remove()


def project():
    """Of the token, as noauth has it."""
    user, _, name = flask.request.headers.get("X-Auth-Token", "admin:admin").partition(":")
    return name or user


def brief(animal):
    """What a list shows."""
    href = f"{flask.request.url_root}v1/animals/{animal.id}"
    return {"id": animal.id, "name": animal.name, "links": [{"rel": "self", "href": href}]}


def view(animal):
    """What show shows."""
    names = ("id", "project_id", "name", "species", "status", "adopted_by", "created_at", "updated_at")
    return {**{name: getattr(animal, name) for name in names}, "links": brief(animal)["links"]}


@app.get("/v1/animals")
def index():
    """List."""
    limit = min(flask.request.args.get("limit", 1000, int), 1000)
    query = sa.select(Animal).where(Animal.project_id == project()).order_by(Animal.created_at, Animal.id).limit(limit)
    return {"animals": [brief(animal) for animal in session.scalars(query)]}


@app.get("/v1/animals/<id>")
def show(id):
    """Show."""
    animal = session.scalar(sa.select(Animal).where(Animal.id == id, Animal.project_id == project()))
    if animal is None:
        flask.abort(404)
    return {"animal": view(animal)}


@app.post("/v1/animals")
def create():
    """Create."""
    body = flask.request.get_json()["animal"]
    if not isinstance(body["name"], str) or not isinstance(body["species"], str):
        flask.abort(400)
    mine = sa.select(sa.func.count()).select_from(Animal).where(Animal.project_id == project())
    if session.scalar(mine) >= 10_000_000:
        flask.abort(403)
    now = dt.datetime.now(dt.UTC).isoformat()
    animal = Animal(id=str(uuid.uuid4()), project_id=project(), status="available", adopted_by="", tags=[], revision=1)
    animal.name, animal.species, animal.created_at, animal.updated_at = body["name"], body["species"], now, now
    session.add(animal)
    session.commit()
    return {"animal": view(animal)}, 201, {"Location": brief(animal)["links"][0]["href"]}
