"""Questions to the rows, and the verb that asks them."""

import json
from pathlib import Path

import pytest
from rows import FLAGGED, blocked, entry
from sqlalchemy import Engine
from typer.testing import CliRunner

from marbury.audit import query
from marbury.audit.query import Filter, since
from marbury.audit.row import row_of
from marbury.audit.store import insert
from marbury.cli import app
from marbury.errors import SettingsError
from marbury.scoring import Verdict
from marbury.serve.accounts import pseudonym
from marbury.serve.journal import OutputVerdict
from marbury.workspace import Workspace

POTION = OutputVerdict(0, "content", Verdict("output", True, 4.0, 2.0, "potions"))


@pytest.fixture
def filled(engine: Engine) -> Engine:
    entries = [
        entry("a", time=100.0, key="reader"),
        blocked("b", time=300.0, key="reader", user=pseudonym("ida")),
        blocked("c", time=200.0, safety_identifier=pseudonym("ida")),
        entry("d", time=400.0, outcome="output_blocked", outputs=[POTION]),
        entry("e", time=500.0, outcome="passed", outputs=[POTION], output_mode="shadow"),
        entry("f", time=600.0, outcome="guard_error", judging_failed=True, input=None, error="[red]too slow"),
    ]
    insert(engine, [row_of(each, "none") for each in entries])
    return engine


def found(engine: Engine, **chosen: object) -> str:
    return "".join(row["id"] for row in query.rows(engine, Filter(**chosen)))  # type: ignore[arg-type]


def test_filters(filled: Engine) -> None:
    assert found(filled) == "acbdef"  # in order of time
    assert found(filled, since=300.0) == "bdef"
    assert found(filled, outcome="input_blocked") == "cb"
    assert found(filled, action="would_block") == "e"
    assert found(filled, category="potions") == "de"
    assert found(filled, category=FLAGGED.category, key="reader") == "b"
    assert found(filled, user="ida") == "cb" == found(filled, user=pseudonym("ida"))
    assert found(filled, id="f") == "f" and found(filled, id="'; drop table marbury_requests --") == ""


def test_the_newest_are_in_order_of_time(filled: Engine) -> None:
    assert [row["id"] for row in query.rows(filled, Filter(), 2)] == ["e", "f"]
    assert [row["id"] for row in query.rows(filled, Filter(outcome="input_blocked"), 1)] == ["b"]


def test_counts(filled: Engine) -> None:
    assert query.count(filled, Filter(), "category") == {"": 2, "potions": 2, "recipes": 2}
    assert query.count(filled, Filter(since=300.0), "action") == {"block": 2, "error": 1, "would_block": 1}


def test_since() -> None:
    assert since("90s", 1000.0) == 910.0 and since("24h", 90_000.0) == 3600.0 and since("1d", 86_400.0) == 0.0
    assert since("1970-01-02") == 86_400.0 == since("1970-01-02T02:00+02:00")
    with pytest.raises(SettingsError, match="--since 'yesterday': write"):
        since("yesterday")


def run(ws: Workspace, url: str, *words: str) -> str:
    (ws.root / "constitution.md").write_text("# Tales\n")
    ws.settings.write_text(f"[serve]\naudit = {json.dumps(url)}\n")
    done = CliRunner().invoke(app, ["audit", str(ws.root), *words], env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    return done.output


def test_the_verb_counts_and_lists(filled: Engine, ws: Workspace, url: str) -> None:
    ws.audit.mkdir(exist_ok=True)
    (ws.audit / "spool-x.jsonl").write_bytes(b"{}\n{}\n")
    told = run(ws, url, "--since", "1970-01-01", "--limit", "2")
    assert "input_blocked" in told and "would_block" in told and "[red]too slow" in told
    assert "1970-01-01 00:10:00" in told and "1970-01-01 00:01:40" not in told
    assert f"waiting in {ws.audit}: 2;" in told.replace("\n", "")
    assert "output_blocked/block" in told or "guard_error/error" in told


def test_the_verb_exports_every_chosen_row(filled: Engine, ws: Workspace, url: str, tmp_path: Path) -> None:
    run(ws, url, "--outcome", "input_blocked", "--export", str(tmp_path / "out.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["c", "b"]
    assert rows[0]["input_score"] == 3.0 and rows[0]["verdicts"]["input"]["category"] == "recipes"
    assert run(ws, url, "--id", "a", "--export", "-").startswith('{"id":"a","time":100.0')
    run(ws, url, "--upgrade")


def test_a_row_steers_no_terminal(engine: Engine, ws: Workspace, url: str) -> None:
    insert(engine, [row_of(entry("a", error="\x1b[2Jgone\r"), "none")])
    assert "\x1b[2J" not in run(ws, url)


def test_a_place_that_cannot_be_written_is_named(filled: Engine, ws: Workspace, url: str) -> None:
    with pytest.raises(AssertionError, match="rows cannot be written"):
        run(ws, url, "--export", "/dev/null/x")
