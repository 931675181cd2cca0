from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from marbury import __version__, pipeline
from marbury.cli import app
from marbury.constitution import templates


def marbury(*words: object) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [str(word) for word in words])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    assert marbury("new", tmp_path / "run").exit_code == 0
    return tmp_path / "run"


@pytest.mark.parametrize("template", templates.names())
def test_new_makes_a_folder_that_check_accepts(tmp_path: Path, template: str) -> None:
    made = marbury("new", tmp_path / "x", "--template", template)
    assert made.exit_code == 0 and "next:" in made.output
    checked = marbury("check", tmp_path / "x")
    assert checked.exit_code == 0 and " 0 errors" in checked.output
    pipeline.load_settings(pipeline.open_run(tmp_path / "x"))


def test_new_never_overwrites(run: Path) -> None:
    (run / "constitution.md").write_text("mine")
    result = marbury("new", run)
    assert result.exit_code == 1 and "choose another folder" in result.output
    assert (run / "constitution.md").read_text() == "mine"


def test_new_names_the_nearest_template(tmp_path: Path) -> None:
    result = marbury("new", tmp_path / "x", "--template", "finanse")
    assert result.exit_code == 1 and "did you mean 'finance'" in result.output
    assert not (tmp_path / "x").exists()


def test_check_says_file_and_line_and_fails_on_errors(run: Path) -> None:
    text = (run / "constitution.md").read_text()
    (run / "constitution.md").write_text(text.replace("### dispersal", "### Dispersal Methods"))
    result = marbury("check", run)
    line = text[: text.index("### dispersal")].count("\n") + 1
    assert result.exit_code == 1 and f"constitution.md:{line}: error:" in result.output


def test_diff_names_the_touched_category(run: Path, tmp_path: Path) -> None:
    edited = tmp_path / "edited.md"
    edited.write_text(
        (run / "constitution.md").read_text().replace("- which chord opens them", "- which note opens them")
    )
    result = marbury("diff", run, edited)
    assert result.exit_code == 0 and "+ which note opens them" in result.output and "touches dispersal" in result.output
    assert "the same rules" in marbury("diff", run, run).output


def test_run_until_dataset_and_show(run: Path) -> None:
    assert "not run" in marbury("show", run).output
    first = marbury("run", run, "--until", "dataset", "--set", "augment.variants=0")
    assert first.exit_code == 0 and "synth" in first.output
    again = marbury("run", run, "--until", "dataset", "--set", "augment.variants=0")
    assert again.output.count("done already") == 3
    shown = marbury("show", run).output
    assert "out of date" in shown and "done" in shown  # show reads marbury.toml, which knows nothing of --set


def test_dataset_takes_files_on_the_command_line_and_says_what_it_read_as_what(run: Path, tmp_path: Path) -> None:
    assert marbury("run", run, "--until", "augment", "--set", "augment.variants=0").exit_code == 0
    rows = [f'{{"ask": "May I take lamp {n} of {n}?", "verdict": {n % 2}}}' for n in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows).replace("ask", "prompt").replace("verdict", "label"))
    (tmp_path / "b.jsonl").write_text("\n".join(rows))
    before = (run / "marbury.toml").read_text()
    result = marbury("dataset", run, "--import", tmp_path / "a.jsonl")
    assert result.exit_code == 0 and "a.jsonl: request from 'prompt', label from 'label'" in result.output
    assert "imported 20" in result.output and "[[dataset.imports]]\npath = " in result.output
    assert (run / "marbury.toml").read_text() == before
    result = marbury("dataset", run, "--import", tmp_path / "a.jsonl", "--import", tmp_path / "b.jsonl")
    assert result.exit_code == 1 and "there are 'ask', 'verdict'" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "variants=2"), "is not STAGE.KEY=VALUE"),
        (("--set", "agument.variants=2"), "is no stage"),
        (("--until", "trian"), "is no stage"),
    ],
)
def test_a_wrong_flag_says_what_is_right(run: Path, words: tuple[str, ...], message: str) -> None:
    result = marbury("run", run, *words)
    assert result.exit_code == 2 and message in result.output


def test_an_error_is_one_message_with_the_next_step(tmp_path: Path, run: Path) -> None:
    result = marbury("run", tmp_path)
    assert result.exit_code == 1 and "is not a run folder" in result.output and "marbury new" in result.output
    result = marbury("train", run)
    assert result.exit_code == 1 and "run `marbury dataset" in result.output
    result = marbury("synth", run, "--set", "modle=x")
    assert result.exit_code == 1 and "did you mean 'model'" in result.output
    result = marbury("serve", run, "--upstream", "ftp://x")
    assert result.exit_code == 1 and "is not an http:// or https:// URL" in result.output


def test_help_names_every_verb_and_version_prints() -> None:
    text = marbury("--help").output
    assert all(verb in text for verb in ("new", "check", "diff", "run", "show", "serve", "demo", *pipeline.STAGES))
    assert marbury("version").output.strip() == __version__
