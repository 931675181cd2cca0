"""The tables that migrations make are those that the code knows, in both databases."""

import subprocess
import sys
from contextlib import ExitStack
from subprocess import PIPE

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from marbury.audit import schema
from marbury.audit.database import database_url, open_engine
from marbury.audit.tables import VERSION_TABLE, metadata
from marbury.errors import SettingsError
from marbury.workspace import Workspace


def test_migrations_make_the_tables_that_the_code_knows(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []
    assert schema.revision(engine) == schema.head()


def test_an_older_database_is_named_and_brought_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "head", lambda: "0002")
    with pytest.raises(SettingsError, match="has schema 0001, this version of Marbury needs 0002.*--upgrade"):
        schema.ensure(engine)


def test_a_newer_database_is_left_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"update {VERSION_TABLE} set version_num = '0999'"))
    with pytest.raises(SettingsError, match="has schema 0999.*install the newer Marbury"):
        schema.ensure(engine)


def test_other_tables_in_the_same_database_do_not_matter(ws: Workspace, url: str) -> None:
    engine = open_engine(database_url(url, ws.root))
    with engine.begin() as connection:
        connection.execute(text("create table alembic_version (version_num varchar(32))"))
        connection.execute(text("insert into alembic_version values ('of another program')"))
    schema.ensure(engine)
    assert schema.revision(engine) == schema.head()
    engine.dispose()


def test_processes_may_begin_at_once(ws: Workspace, url: str) -> None:
    script = f"""
import sys
from pathlib import Path
from marbury.audit import schema
from marbury.audit.database import database_url, open_engine
engine = open_engine(database_url({url!r}, Path({str(ws.root)!r})))
print("ready", flush=True)
sys.stdin.readline()
schema.upgrade(engine)
"""
    with ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", script], stdin=PIPE, stdout=PIPE))
            for _ in range(3)
        ]
        for process in started:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        for process in started:
            process.communicate(b"go\n")
    assert [process.returncode for process in started] == [0, 0, 0]
    engine = open_engine(database_url(url, ws.root))
    assert schema.revision(engine) == schema.head()
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing_behind(ws: Workspace, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(database_url(url, ws.root))

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("alembic.op.create_index", fails)
        with pytest.raises(RuntimeError, match="killed"):
            schema.upgrade(engine)
    assert inspect(engine).get_table_names() == []
    schema.ensure(engine)
    engine.dispose()
