"""Alembic's entry: migrate over the connection that apid.api.db.migrate hands in."""

from alembic import context

from apid.api.db.tables import metadata

if hasattr(context, "config"):  # only while Alembic runs this file
    context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
    context.run_migrations()
