"""Alembic's entry: runs the revisions on the connection (and in the transaction) that `migrations.ensure` hands in."""

from alembic import context

from workflows.journal.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
