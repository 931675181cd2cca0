"""Whether the tables are those that this version of Marbury knows, and bringing them there."""

import time

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from marbury.audit.tables import VERSION_TABLE
from marbury.errors import SettingsError


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
    """Bring the tables to this version. Two processes that do so at once do it once."""
    try:
        _upgrade(engine)
    except SQLAlchemyError:
        time.sleep(1.0)
        if revision(engine) != head():
            raise


def revision(engine: Engine) -> str | None:
    """The schema that the database has; None: none."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def head() -> str:
    """The schema of this version of Marbury."""
    return str(_scripts().get_current_head())


def _upgrade(engine: Engine) -> None:
    with engine.begin() as connection:
        command.upgrade(_config(connection), "head")


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "marbury.audit:migrations")
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
