"""The tables, as SQLAlchemy Core sees them. What changes here needs a migration; a test compares the two."""

from __future__ import annotations

import sqlalchemy as sa

SCHEMA = "0001"
"""The newest migration; a worker that starts compares it with the database without loading Alembic."""

metadata = sa.MetaData()

animals = sa.Table(
    "animals",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("species", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("adopted_by", sa.String(255), nullable=False, server_default=""),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("updated_at", sa.String(32), nullable=False),
    sa.UniqueConstraint("project_id", "name", name="uq_animals_project_name"),
    sa.Index("ix_animals_project_created", "project_id", "created_at", "id"),
)
"""Times are ISO 8601 in UTC with microseconds: they sort as text, in every database alike."""
