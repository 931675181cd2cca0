"""`marbury drill` and `marbury serve --drill` as people run them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from marbury.cli import app
from marbury.drill.own import own_guard
from marbury.errors import ModelError

WORD = "quillstone"


def marbury(*words: object) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [str(word) for word in words])


def test_our_own_guard_holds(tmp_path: Path) -> None:
    """The real server in a process of its own, over its real command line."""
    done = marbury("drill", "--self", "--json", tmp_path / "drill.json")
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "drill.json").read_text())
    attacks = [row for row in report["rows"] if row["kind"] != "control"]
    assert not report["failed"] and len(attacks) > 100
    assert sum(row["characters"] for row in attacks) == 0
    assert {row["verdict"] for row in report["rows"]} <= {"ok", "dropped", "not served"}
    assert all(row["closed"] for row in attacks if row["closed"] is not None)
    slow = [row for row in attacks if row["how"] == "slow, goes on"]
    assert slow and all(row["events_after"] <= 10 for row in slow)
    assert (
        f"{len(attacks)} attacks, 0 leaked" in done.output and "scripted upstream on http://127.0.0.1:" in done.output
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say which guard"),
        (("http://127.0.0.1:9", "--self"), "say which guard"),
        (("http://192.0.2.1:8787",), "192.0.2.1 is not this machine"),
        (("http://guard.example",), "guard.example is not this machine"),
        (("http://127.0.0.1:9", "--upstream-host", "0.0.0.0"), "0.0.0.0 is not this machine"),
        (("127.0.0.1:8787",), "no URL of a guard"),
        (("--self", "--word", "two words"), "must be one word"),
        (("--self", "--word", "lantern αβγδ"), "must be one word"),
        (("--self", "--word", "keeper"), "occurs in its harmless text"),
        (("--self", "--only", "embeddings"), "is no endpoint of the drill"),
        (("--self", "--key-env", "MARBURY_NO_SUCH_KEY"), "MARBURY_NO_SUCH_KEY is not set"),
    ],
)
def test_what_cannot_be_drilled_is_refused(words: tuple[str, ...], said: str) -> None:
    done = marbury("drill", *words)
    assert done.exit_code == 1 and said in done.output


def test_serve_needs_a_run_folder_or_a_word() -> None:
    done = marbury("serve")
    assert done.exit_code == 2 and "run folder" in done.output


@pytest.mark.parametrize("word", ["", " ", "two words", " quillstone"])
def test_a_drill_of_no_word_is_refused(word: str) -> None:
    done = marbury("serve", "--drill", word)
    assert done.exit_code == 1 and "is not one word" in done.output


def test_an_own_guard_that_cannot_start_is_an_error_at_once() -> None:
    with pytest.raises(ModelError, match="ended with status 1"), own_guard(WORD, "no URL at all"):
        pass


def test_a_drill_server_reads_no_settings_of_the_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "marbury.toml").write_text("[serve]\noutput = 'shadow'\n")
    monkeypatch.chdir(tmp_path)
    served: list[tuple[str, str]] = []
    monkeypatch.setattr("marbury.pipeline.serve_drill", lambda settings, word: served.append((settings.output, word)))
    assert marbury("serve", "--drill", WORD).exit_code == 0
    assert served == [("enforce", WORD)]
