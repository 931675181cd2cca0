"""The door of the audit: from the settings of a run to a database that takes rows."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import URL, Engine
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError, ProgrammingError, SQLAlchemyError

from marbury.audit import schema
from marbury.audit.database import SQLITE, database_url, open_engine, told
from marbury.audit.memory import Memory
from marbury.audit.spool import Spool
from marbury.audit.writer import Writer
from marbury.errors import SettingsError
from marbury.serve import ServeSettings
from marbury.serve.accounts import Accounts
from marbury.serve.door import Door
from marbury.serve.keys import KeyRing, file_ring
from marbury.serve.settings import account_rules
from marbury.workspace import Workspace

log = logging.getLogger("marbury.serve")
DATABASE = "database"
_NO_OUTAGE = ("does not exist", "authentication failed", "no password supplied")  # what a living PostgreSQL says


@dataclass(frozen=True)
class Audit:
    """What `create_app` takes: who may ask, and where rows go (None: to the log alone)."""

    door: Door
    writer: Writer | None


def open_audit(ws: Workspace, settings: ServeSettings) -> Audit:
    """Open the database that the settings name, make its tables if it is empty, and read the keys.

    A database that is away is no reason not to guard: rows wait in the spool then.

    Raises:
        SettingsError: the URL, the driver, the place, the schema or the keys are wrong.
    """
    ring = _ring(ws, settings)
    accounts = Accounts(account_rules(settings))
    if not settings.audit:
        return Audit(Door(ring, accounts), None)
    engine = open_engine(database_url(settings.audit, ws.root))
    in_database = ring if settings.keys == DATABASE else None
    memory = Memory(engine, accounts, in_database, settings.retention_days)
    spool, up = Spool(ws.audit), True
    try:
        _begin(engine)
        memory.learn()
    except SQLAlchemyError as error:
        up = False
        log.error("audit: the database cannot be reached (%s); rows wait in %s", told(error), spool.path)
    return Audit(Door(ring, accounts), Writer(engine, spool, settings.audit_content, memory.refresh, up))


@contextmanager
def reading(ws: Workspace, settings: ServeSettings, *, upgrade: bool = False) -> Iterator[Engine]:
    """The database for a verb that reads it or changes keys; it must be there.

    Raises:
        SettingsError: there is none, it cannot be reached, or has another schema.
    """
    if not settings.audit:
        raise SettingsError(f'{ws.settings} [serve] audit is "": there is no database; rows are in the log alone')
    url = database_url(settings.audit, ws.root)
    engine = open_engine(url)
    try:
        if upgrade:
            schema.upgrade(engine)
        _begin(engine)
        yield engine
    except (OperationalError, InterfaceError, ProgrammingError) as error:
        raise SettingsError(f"[serve] audit: {shown(url)} cannot be used: {told(error)}") from error
    finally:
        engine.dispose()


def shown(url: URL) -> str:
    """The URL without its password."""
    return url.render_as_string(hide_password=True)


def _ring(ws: Workspace, settings: ServeSettings) -> KeyRing | None:
    if not settings.keys:
        return None
    return KeyRing(None) if settings.keys == DATABASE else file_ring(ws.root / settings.keys)


def _begin(engine: Engine) -> None:
    """Check the schema. What no waiting mends is a wrong setting; any other failure may pass."""
    try:
        schema.ensure(engine)
    except DatabaseError as error:
        if engine.url.drivername == SQLITE and not _busy(error):
            where = engine.url.database
            raise SettingsError(f"[serve] audit: {where} is no usable SQLite database: {error.orig}") from error
        if any(words in str(error.orig) for words in _NO_OUTAGE):
            raise SettingsError(f"[serve] audit: {shown(engine.url)}: {told(error)}: correct the URL") from error
        raise


def _busy(error: DatabaseError) -> bool:
    return isinstance(error, OperationalError) and "locked" in str(error.orig)
