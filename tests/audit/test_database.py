"""Wrong settings of the database are named with what to do; what may pass is no error."""

import importlib.util
import sqlite3
from pathlib import Path

import pytest
from cluster import Cluster
from rows import entry

from marbury.audit import query
from marbury.audit.database import database_url, open_engine
from marbury.audit.stage import open_audit, reading, shown
from marbury.errors import SettingsError
from marbury.serve.settings import ServeSettings
from marbury.workspace import Workspace


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("audit.db", "no URL of a database: write sqlite:///PATH or postgresql"),
        ("postgres//me:secret@host", "no URL of a database"),
        ("postgresql+psycopg://me:secret@host:port/x", "no URL of a database"),
        ("mysql://me:secret@host/x", "mysql is not supported"),
        ("postgresql+asyncpg://me:secret@host/x", "postgresql.asyncpg is not supported"),
        ("sqlite://", "SQLite needs a file"),
        ("sqlite:///:memory:", "SQLite needs a file"),
        ("sqlite:////dev/null/audit.db", "/dev/null/audit.db cannot be written.*choose another place"),
    ],
)
def test_a_wrong_url_is_named_without_its_password(url: str, message: str, ws: Workspace) -> None:
    with pytest.raises(SettingsError, match=message) as raised:
        open_audit(ws, ServeSettings(audit=url))
    assert "secret" not in str(raised.value)


def test_a_missing_driver_is_named(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'marbury\[postgres\]'"):
        database_url("postgresql://me@host/x", ws.root)


def test_short_and_relative_urls_are_completed(tmp_path: Path) -> None:
    assert database_url("postgresql://me@host/x", tmp_path).drivername == "postgresql+psycopg"
    assert database_url("sqlite:///audit/audit.db", tmp_path).database == str(tmp_path / "audit" / "audit.db")
    assert database_url("sqlite:////srv/a.db", tmp_path).database == "/srv/a.db"
    assert "secret" not in shown(database_url("postgresql://me:secret@host/x", tmp_path))


def test_a_file_that_is_no_database_is_named(ws: Workspace) -> None:
    ws.audit.mkdir()
    (ws.audit / "audit.db").write_text("a tale, and no database at all, long enough to be looked at" * 40)
    with pytest.raises(SettingsError, match="audit.db is no usable SQLite database: file is not a database"):
        open_audit(ws, ServeSettings())


def test_sqlite_is_in_wal(ws: Workspace) -> None:
    with reading(ws, ServeSettings()) as engine, engine.connect() as connection:
        assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("pragma synchronous").scalar() == 2


def test_a_locked_database_is_an_outage_for_the_guard_and_an_error_for_the_verb(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marbury.audit.database._CONNECT_S", 0.1)
    with reading(ws, ServeSettings()):
        pass
    hold = sqlite3.connect(ws.audit / "audit.db")
    hold.execute("begin exclusive")
    opened = open_audit(ws, ServeSettings())
    assert opened.writer is not None
    opened.writer.record(entry("a"))
    hold.execute("drop table marbury_requests")  # so that reading meets an error of its own
    hold.commit()
    hold.close()
    with pytest.raises(SettingsError, match="cannot be used"), reading(ws, ServeSettings()) as engine:
        query.count(engine, query.Filter(), "outcome")


def test_what_no_waiting_mends_is_no_outage(ws: Workspace, postgres: Cluster) -> None:
    wrong = postgres.url.replace("/postgres?", "/no_such_database?")
    with pytest.raises(SettingsError, match=r"no_such_database.*does not exist.*correct the URL") as raised:
        open_audit(ws, ServeSettings(audit=wrong))
    assert "the-password" not in str(raised.value)


def test_the_verb_says_that_postgres_is_away(ws: Workspace, tmp_path: Path) -> None:
    away = ServeSettings(audit=f"postgresql+psycopg://me:the-password@/x?host={tmp_path}")
    with pytest.raises(SettingsError, match="cannot be used: OperationalError") as raised, reading(ws, away):
        pass
    assert "the-password" not in str(raised.value)


def test_the_engine_connects_to_nothing_yet(tmp_path: Path) -> None:
    open_engine(database_url("postgresql://me@nowhere.invalid/x", tmp_path)).dispose()


def test_no_database_no_file(ws: Workspace) -> None:
    assert open_audit(ws, ServeSettings(audit="")).writer is None
    assert not ws.audit.exists()
    with pytest.raises(SettingsError, match="rows are in the log alone"), reading(ws, ServeSettings(audit="")):
        pass
