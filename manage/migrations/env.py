"""Alembic's entry point: runs on the connection that ``manage.store`` hands over."""

from alembic import context

from manage.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
