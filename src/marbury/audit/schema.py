"""Whether the tables are those that this version of Marbury knows, and bringing them there."""

import threading

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from marbury.audit.tables import VERSION_TABLE
from marbury.errors import SettingsError

_ALONE = threading.Lock()  # alembic runs once at a time in a process
_LOCK = 7_462_287  # any number that is the same in all processes


def ensure(engine: Engine) -> None:
    """Make the tables in an empty database; check those of another.

    Raises:
        SettingsError: they are of another version of Marbury.
        SQLAlchemyError: the database cannot be reached.
    """
    found = revision(engine)
    if found is None:
        upgrade(engine)
    elif found != head():
        known = found in {script.revision for script in _scripts().walk_revisions()}
        raise SettingsError(
            f"[serve] audit: the database has schema {found}, this version of Marbury needs {head()}: "
            + ("run `marbury audit RUN --upgrade`" if known else "install the newer Marbury that wrote it")
        )


def upgrade(engine: Engine) -> None:
    """Bring the tables to this version, in one transaction. Who does so at the same time waits, and finds it done."""
    with _ALONE, engine.begin() as connection:
        lock = "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else f"SELECT pg_advisory_xact_lock({_LOCK})"
        connection.exec_driver_sql(lock)
        command.upgrade(_config(connection), "head")


def revision(engine: Engine) -> str | None:
    """The schema that the database has; None: none."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def head() -> str:
    """The schema of this version of Marbury."""
    return str(_scripts().get_current_head())


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "marbury.audit:migrations")
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
