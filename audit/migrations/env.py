"""Alembic's entry point: runs on the connection that ``runtime.database`` hands over."""

from alembic import context

from audit.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    target_metadata=METADATA,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
