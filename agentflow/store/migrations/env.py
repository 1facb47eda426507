"""Runs revisions on the connection that migrate.py opened, inside its one transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], target_metadata=None)
context.run_migrations()
