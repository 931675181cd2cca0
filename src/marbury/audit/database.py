"""Opening the audit database: SQLite in WAL mode, or PostgreSQL. A password is in no message."""

import importlib.util
import os
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, SQLAlchemyError

from marbury.audit.spool import private
from marbury.errors import SettingsError

SQLITE, POSTGRES = "sqlite", "postgresql+psycopg"
_SHAPES = "sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME"
_CONNECT_S = 5
_POSTGRES_OPTIONS = "-c statement_timeout=15000 -c lock_timeout=5000"


def database_url(text: str, root: Path) -> URL:
    """The URL in a setting; a relative path of SQLite's begins at `root`.

    Raises:
        SettingsError: it is none, of another database, or its driver is not installed.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise SettingsError(f"[serve] audit is no URL of a database: write {_SHAPES}") from error
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername=POSTGRES)
    if url.drivername == POSTGRES:
        if importlib.util.find_spec("psycopg") is None:
            raise SettingsError("[serve] audit: PostgreSQL needs its driver: pip install 'marbury[postgres]'")
        return url
    if url.drivername != SQLITE:
        raise SettingsError(f"[serve] audit: {url.drivername} is not supported: write {_SHAPES}")
    if url.database in (None, "", ":memory:"):
        raise SettingsError("[serve] audit: SQLite needs a file: write sqlite:///audit/audit.db")
    return url.set(database=str(root / str(url.database)))


def open_engine(url: URL) -> Engine:
    """An engine on the database; connects to nothing yet.

    Raises:
        SettingsError: the file of an SQLite database cannot be written.
    """
    if url.drivername == SQLITE:
        _check_place(Path(str(url.database)))
        path = str(url.database)
        engine = create_engine(url, pool_size=1, hide_parameters=True, connect_args={"timeout": _CONNECT_S})
        event.listen(engine, "connect", partial(_prepare_sqlite, path))
        event.listen(engine, "checkout", partial(_same_file, path))
        return engine
    given: dict[str, Any] = {"connect_timeout": _CONNECT_S, "tcp_user_timeout": 10_000, "options": _POSTGRES_OPTIONS}
    given["prepare_threshold"] = None  # a pooler between may give each transaction another connection
    return create_engine(url, pool_size=1, max_overflow=1, pool_pre_ping=True, hide_parameters=True, connect_args=given)


def told(error: SQLAlchemyError) -> str:
    """An error of the database as a log may have it: its first line alone, which holds no value and no password."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    name = type(error).__name__
    first = str(cause).strip().splitlines()[:1]
    return f"{name}: {first[0]}" if cause is not None and name == "OperationalError" and first else name


def _prepare_sqlite(path: str, connection: Any, record: Any) -> None:
    # WAL: readers do not wait for the writer. FULL: what is committed survives a power cut.
    for pragma in (f"busy_timeout={_CONNECT_S * 1000}", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    record.info["file"] = os.stat(path).st_ino


def _same_file(path: str, _: Any, record: Any, __: Any) -> None:
    """A file that was moved away or replaced takes rows that nobody finds again."""
    try:
        same = os.stat(path).st_ino == record.info["file"]
    except OSError:
        same = False
    if not same:
        raise DisconnectionError(f"{path} is another file now")


def _check_place(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "ab", opener=private):
            pass
    except OSError as error:
        raise SettingsError(
            f'[serve] audit: {path} cannot be written ({error.strerror}): choose another place, or audit = "" for none'
        ) from error
