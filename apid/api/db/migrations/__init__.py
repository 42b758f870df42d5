"""The migrations, read by Alembic."""
