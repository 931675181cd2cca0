"""How alembic runs here: on the connection that `audit.schema` gives it, and in no other way."""

from alembic import context

from marbury.audit.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
