"""Rows on their way into both databases: outages, crashes, rows that no database takes."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from databases import emptied
from rows import blocked, entry, eventually, said
from sqlalchemy import Engine, text

from marbury.audit import open_audit, query, writer
from marbury.audit.query import Filter
from marbury.audit.row import row_of
from marbury.audit.spool import waiting_in
from marbury.audit.writer import Writer
from marbury.serve.door import Door
from marbury.serve.settings import ServeSettings
from marbury.workspace import Workspace


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "TICK_S", 0.1)


@contextmanager
def opened(ws: Workspace, settings: ServeSettings) -> Iterator[tuple[Writer, Door]]:
    audit = open_audit(ws, settings)
    assert audit.writer is not None
    audit.writer.start()
    try:
        yield audit.writer, audit.door
    finally:
        audit.writer.stop()


@contextmanager
def writing(ws: Workspace, settings: ServeSettings) -> Iterator[Writer]:
    with opened(ws, settings) as (audit, _):
        yield audit


def ids(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return [name for (name,) in connection.execute(text("select id from marbury_requests order by seq"))]


def test_every_request_is_one_row(ws: Workspace, settings: ServeSettings, engine: Engine) -> None:
    with writing(ws, settings) as audit:
        for i in range(1200):
            audit.record(entry(f"{i}"))
    assert ids(engine) == [f"{i}" for i in range(1200)]
    row = [*query.rows(engine, Filter(id="7"))][0]
    assert (row["route"], row["policy"], row["status"], row["steps"], row["action"]) == (
        "chat_completions", "c0ffee", 200, 7, "allow",
    )  # fmt: skip
    assert row["verdicts"]["outputs"][0]["verdict"]["score"] == -2.0
    assert audit.state().written == 1200 and audit.state().waiting == 0
    assert list(ws.audit.glob("spool-*")) == []


def test_a_row_that_comes_twice_is_there_once(ws: Workspace, settings: ServeSettings, engine: Engine) -> None:
    with writing(ws, settings) as audit:
        for name in "abab":
            audit.record(entry(name))
    assert ids(engine) == ["a", "b"]


def test_odd_texts_are_kept(ws: Workspace, settings: ServeSettings, engine: Engine) -> None:
    odd = "NUL \0, half \ud800, both \U0001f3f0, quote ' \" \\u0000"
    with writing(ws, ServeSettings(audit=settings.audit, audit_content="full")) as audit:
        audit.record(entry("a", model=odd, error=odd, user=odd, content=said(odd, odd)))
    row = [*query.rows(engine, Filter())][0]
    kept = "NUL \ufffd, half ?, both \U0001f3f0, quote ' \" \\u0000"
    assert row["error"] == row["model"] == row["content"]["reply"][0] == kept


def test_a_row_that_the_database_refuses_blocks_no_other(
    ws: Workspace, settings: ServeSettings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "row_of", lambda e, keep: {**real(e, keep), **({"route": None} if e.id == "b" else {})})
    with writing(ws, settings) as audit:
        for name in "abc":
            audit.record(entry(name))
        eventually(lambda: audit.state().damaged == 1 and audit.state().waiting == 0)
    assert ids(engine) == ["a", "c"]
    assert b'"id":"b"' in (ws.audit / "damaged.jsonl").read_bytes()


real = row_of


def test_a_torn_line_is_put_aside(ws: Workspace, settings: ServeSettings, engine: Engine) -> None:
    ws.audit.mkdir(exist_ok=True)
    (ws.audit / "spool-dead.jsonl").write_bytes(b'{"id": "a", "time": 1.0, "rou')
    with writing(ws, settings) as audit:
        audit.record(entry("b"))
        eventually(lambda: audit.state().damaged == 1)
    assert ids(engine) == ["b"]


def test_what_is_put_aside_during_an_outage_is_put_aside_once(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marbury.audit.database._CONNECT_S", 0.05)
    with writing(ws, ServeSettings()) as audit:
        with closing(sqlite3.connect(ws.audit / "audit.db")) as other:
            other.execute("begin exclusive")
            audit._spool.append([b"torn"])
            audit.record(entry("a"))
            eventually(lambda: not audit.state().up)
            time.sleep(0.5)  # some tries
        eventually(lambda: audit.state().up)
    assert (ws.audit / "damaged.jsonl").read_bytes() == b"torn\n" and rows_of(ws) == ["a"]


def test_rows_go_on_when_nothing_can_be_learnt(ws: Workspace, settings: ServeSettings, engine: Engine) -> None:
    """Such as without the right to read the table of keys."""

    def fails() -> None:
        raise RuntimeError("no rights")

    with writing(ws, settings) as audit:
        audit._tick = fails
        eventually(lambda: not audit.state().up)
        for i in range(3):
            audit.record(entry(f"{i}"))
            eventually(lambda i=i: audit.state().written == i + 1)  # type: ignore[misc]
    assert ids(engine) == ["0", "1", "2"]


def test_a_mistake_in_a_row_ends_no_thread(ws: Workspace, settings: ServeSettings, engine: Engine) -> None:
    broken: Any = entry("a")
    broken.outputs = None
    with writing(ws, settings) as audit:
        audit.record(broken)
        audit.record(entry("b"))
        eventually(lambda: audit.state().lost == 1)
    assert ids(engine) == ["b"]


def test_a_full_queue_loses_loudly_and_at_once(
    ws: Workspace,
    settings: ServeSettings,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "QUEUE", 3)
    audit = open_audit(ws, settings).writer
    assert audit is not None
    for i in range(5):  # no thread takes them yet
        audit.record(entry(f"{i}"))
    assert audit.state().lost == 2 and "rows are lost" in caplog.text
    audit.start()
    audit.stop()
    assert ids(engine) == ["0", "1", "2"]


# Outages


def test_a_locked_sqlite_loses_nothing(
    ws: Workspace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marbury.audit.database._CONNECT_S", 0.1)
    caplog.set_level(logging.WARNING)
    with writing(ws, ServeSettings()) as audit:
        audit.record(entry("0"))
        eventually(lambda: audit.state().written == 1)
        with sqlite3.connect(ws.audit / "audit.db") as other:
            other.execute("begin exclusive")
            for i in range(1, 700):
                audit.record(entry(f"{i}"))
            eventually(lambda: not audit.state().up and audit.state().waiting == 699)
            assert waiting_in(ws.audit) == 699
            other.rollback()
        other.close()
        eventually(lambda: audit.state().up and audit.state().waiting == 0)
    assert rows_of(ws) == [f"{i}" for i in range(700)]
    assert "takes no rows" in caplog.text and "is back; 699 rows" in caplog.text


def test_a_lost_sqlite_file_is_made_again(ws: Workspace) -> None:
    with writing(ws, ServeSettings()) as audit:
        audit.record(entry("0"))
        eventually(lambda: audit.state().written == 1)
        for file in ws.audit.glob("audit.db*"):
            file.unlink()
        audit.record(entry("1"))
        eventually(lambda: audit.state().written == 2 and audit.state().up)
    assert rows_of(ws) == ["1"]


def test_a_replaced_sqlite_file_is_noticed(ws: Workspace) -> None:
    """Rows do not go on into a file that was moved away."""
    with writing(ws, ServeSettings()) as audit:
        audit.record(entry("0"))
        eventually(lambda: audit.state().written == 1)
        for file in ws.audit.glob("audit.db*"):
            file.rename(file.with_name(f"old-{file.name}"))
        audit.record(entry("1"))
        eventually(lambda: audit.state().written == 2 and audit.state().up)
    assert rows_of(ws) == ["1"]


def test_what_is_written_is_for_its_owner_alone(ws: Workspace) -> None:
    with writing(ws, ServeSettings(audit_content="full")) as audit:
        audit.record(entry("0", content=said("a secret tale")))
        audit._put_aside(b"{}", "a test")
        eventually(lambda: audit.state().written == 1)
        assert ws.audit.stat().st_mode & 0o077 == 0
        assert {
            file.name: file.stat().st_mode & 0o077 for file in ws.audit.iterdir() if file.stat().st_mode & 0o077
        } == {}


def test_a_disk_that_takes_nothing_is_waited_for(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with writing(ws, ServeSettings()) as audit:
        with monkeypatch.context() as patched:
            patched.setattr(audit._spool, "append", full)
            audit.record(entry("0"))
            eventually(lambda: "rows wait in memory" in caplog.text)
            assert audit.state().lost == 0
        eventually(lambda: audit.state().written == 1)
        monkeypatch.setattr(audit._spool, "append", full)
        audit.record(entry("1"))
    assert audit.state().lost == 1 and rows_of(ws) == ["0"]  # it stops all the same


def test_a_sqlite_that_became_something_else_is_an_outage(ws: Workspace) -> None:
    with writing(ws, ServeSettings()) as audit:
        for file in ws.audit.glob("audit.db*"):
            file.unlink()
        (ws.audit / "audit.db").mkdir()
        audit.record(entry("0"))
        eventually(lambda: not audit.state().up)
        (ws.audit / "audit.db").rmdir()
        eventually(lambda: audit.state().up and audit.state().waiting == 0)
    assert rows_of(ws) == ["0"]


def test_a_postgres_that_is_stopped_and_started_loses_nothing(
    ws: Workspace, postgres: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    emptied(postgres)
    with writing(ws, ServeSettings(audit=postgres.url)) as audit:
        audit.record(entry("0"))
        eventually(lambda: audit.state().written == 1)
        postgres.stop()
        try:
            for i in range(1, 900):
                audit.record(entry(f"{i}"))
            eventually(lambda: not audit.state().up and audit.state().waiting == 899)
        finally:
            postgres.start()
        eventually(lambda: audit.state().up and audit.state().waiting == 0)
    engine = audit._engine
    assert ids(engine) == [f"{i}" for i in range(900)]
    engine.dispose()
    assert "the-password" not in caplog.text and "takes no rows" in caplog.text


def test_a_guard_starts_while_its_database_is_away(ws: Workspace, postgres: Cluster) -> None:
    emptied(postgres)
    postgres.stop()
    try:
        audit = open_audit(ws, ServeSettings(audit=postgres.url, keys="database"))
    except BaseException:
        postgres.start()
        raise
    written, ring = audit.writer, audit.door.ring
    assert written is not None and ring is not None and ring.keys is None
    written.start()
    written.record(entry("0"))
    eventually(lambda: not written.state().up)
    postgres.start()
    eventually(lambda: written.state().written == 1 and ring.keys == {})
    written.stop()


def test_kill_9_loses_no_row_that_was_taken(ws: Workspace, url: str, postgres: Cluster) -> None:
    """Rows that were taken during an outage survive the process, and the next one brings them, in order."""
    sqlite = url.startswith("sqlite")
    if sqlite:
        with writing(ws, ServeSettings()):
            pass
        hold = sqlite3.connect(ws.audit / "audit.db")
        hold.execute("begin exclusive")
    else:
        postgres.stop()
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from rows import entry
from marbury.audit import database, open_audit
from marbury.serve.door import Door
from marbury.serve.settings import ServeSettings
from marbury.workspace import Workspace
database._CONNECT_S = 0.1 if {sqlite} else 5
writer = open_audit(Workspace(Path({str(ws.root)!r})), ServeSettings(audit={url!r})).writer
writer.start()
for i in range(300):
    writer.record(entry(str(i)))
while writer.state().up or writer._queue.qsize() or writer._spool.waiting < 300:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(60)
"""
    try:
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as other:
            assert other.stdout is not None and other.stderr is not None
            assert other.stdout.readline() == b"ready\n", other.stderr.read().decode()
            os.kill(other.pid, signal.SIGKILL)
    finally:
        if sqlite:
            hold.close()
        else:
            postgres.start()
    assert waiting_in(ws.audit) == 300
    with writing(ws, ServeSettings(audit=url)) as audit:
        eventually(lambda: audit.state().written == 300)
    engine = audit._engine
    assert ids(engine) == [str(i) for i in range(300)]
    engine.dispose()


def test_a_stop_during_an_outage_leaves_the_rows_for_the_next_start(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marbury.audit.database._CONNECT_S", 0.1)
    with writing(ws, ServeSettings()) as audit:
        hold = sqlite3.connect(ws.audit / "audit.db")
        hold.execute("begin exclusive")
        audit.record(entry("0"))
        eventually(lambda: not audit.state().up)
    hold.close()
    assert waiting_in(ws.audit) == 1
    with writing(ws, ServeSettings()):
        pass
    assert rows_of(ws) == ["0"]


def test_recording_never_waits_for_the_database(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A database that hangs: all rows are taken by a thread that never comes near it."""
    with writing(ws, ServeSettings()) as audit:
        hung, go_on = threading.Event(), threading.Event()

        def hang() -> None:
            hung.set()
            go_on.wait(10)

        audit._tick = hang
        assert hung.wait(5)
        for i in range(50):
            audit.record(entry(f"{i}"))
        eventually(lambda: waiting_in(ws.audit) == 50)  # on the disk, although the database's thread hangs
        monkeypatch.setattr(writer, "STALL_S", 0.0)
        audit.record(entry("50"))
        assert not audit.state().up
        eventually(lambda: "does not answer" in caplog.text)
        monkeypatch.undo()
        go_on.set()
    assert len(rows_of(ws)) == 51


# What is learnt back


def test_flags_survive_a_restart(ws: Workspace, settings: ServeSettings) -> None:
    rules = ServeSettings(audit=settings.audit, flags_before_cooldown=2)
    with writing(ws, rules) as audit:
        audit.record(blocked("a", user="u1", key="reader"))
        audit.record(blocked("b", user="u1", key="reader"))
        audit.record(entry("c", user="u2", key="reader"))
        audit.record(blocked("d", user="u2", key="reader"))
    with opened(ws, rules) as (_, door):
        now = time.time()
        assert door.accounts.wait(["user/reader/u1"], now) > 50
        assert door.accounts.wait(["user/reader/u2", "key/reader/all"], now) == 0


def test_flags_are_shared_between_processes(ws: Workspace, settings: ServeSettings) -> None:
    rules = ServeSettings(audit=settings.audit, flags_before_cooldown=2)
    with opened(ws, rules) as (_, other), writing(ws, rules) as audit:
        audit.record(blocked("a", user="u1"))
        audit.record(blocked("b", user="u1"))
        eventually(lambda: other.accounts.wait(["user//u1"], time.time()) > 0)


def test_old_rows_go(ws: Workspace, settings: ServeSettings, engine: Engine) -> None:
    day = 86_400
    with writing(ws, ServeSettings(audit=settings.audit, retention_days=0)) as audit:
        audit.record(entry("old", time=time.time() - 3 * day))
        audit.record(entry("new", time=time.time() - 1 * day))
        eventually(lambda: audit.state().written == 2)
    assert ids(engine) == ["old", "new"]
    with writing(ws, ServeSettings(audit=settings.audit, retention_days=2)):
        eventually(lambda: ids(engine) == ["new"])


def rows_of(ws: Workspace) -> list[str]:
    with sqlite3.connect(ws.audit / "audit.db") as connection:
        found = [name for (name,) in connection.execute("select id from marbury_requests order by seq")]
    connection.close()
    return found
