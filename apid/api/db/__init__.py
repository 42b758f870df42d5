"""Where the default API keeps its things: SQLAlchemy Core over SQLite or PostgreSQL, migrated by Alembic."""
