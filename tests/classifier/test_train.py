import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from tiny_classifiers import BOTH, TOKENIZERS, bert, save_base
from tiny_training import CATEGORIES, examples, mean_loss, settings_for, teach

from marbury import constitution
from marbury.classifier import train
from marbury.classifier.base import load_base
from marbury.classifier.losses import LOSSES
from marbury.classifier.model import Classifier
from marbury.classifier.model import build as build_classifier
from marbury.classifier.scorer import StreamScorer
from marbury.classifier.train import LAYOUTS, TrainSettings, last_checkpoint
from marbury.classifier.trainer import ShowProgress
from marbury.constitution import templates
from marbury.errors import DataError, SettingsError, WorkspaceError
from marbury.records import Example, Message, to_jsonl
from marbury.scoring import whole
from marbury.settings import build
from marbury.workspace import Workspace, hash_path, write_atomic


class Killed(RuntimeError):
    """Stands for a kill without warning."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_base(kind, tmp_path_factory.mktemp(kind)) for kind in ("bert", "llama")}


@pytest.fixture(scope="module")
def settings(bases: dict[str, Path]) -> TrainSettings:
    return settings_for(bases["bert"])


def die_at(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Let trainings die after these steps, one after the other."""
    original, left = ShowProgress.on_step_end, list(steps)

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        original(self, args, state, control, **rest)
        if left and state.global_step == left[0]:
            raise Killed(left.pop(0))

    monkeypatch.setattr(ShowProgress, "on_step_end", on_step_end)


@pytest.fixture(scope="module")
def undisturbed(settings: TrainSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach(settings, tmp_path_factory.mktemp("undisturbed"))


def test_training_again_gives_the_same_files(settings: TrainSettings, undisturbed: Path, tmp_path: Path) -> None:
    assert hash_path(teach(settings, tmp_path)) == hash_path(undisturbed)


def test_another_seed_gives_other_weights(settings: TrainSettings, undisturbed: Path, tmp_path: Path) -> None:
    other = teach(replace(settings, seed=1), tmp_path) / "model.safetensors"
    assert other.read_bytes() != (undisturbed / "model.safetensors").read_bytes()


# 15 steps in three epochs, a checkpoint after every second one.
@pytest.mark.parametrize("steps", [(1,), (3,), (4,), (7,), (10,), (13,), (15,), (5, 8, 9)])
def test_killed_and_started_again_it_ends_with_the_same_files(
    settings: TrainSettings,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: tuple[int, ...],
) -> None:
    die_at(monkeypatch, *steps)
    for _ in steps:
        with pytest.raises(Killed):
            teach(settings, tmp_path)
        assert not (tmp_path / "final").exists()
    assert steps[0] < 3 or last_checkpoint(tmp_path)
    assert hash_path(teach(settings, tmp_path)) == hash_path(undisturbed)


def test_a_finished_training_that_was_not_saved_is_not_repeated(
    settings: TrainSettings, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(teach(settings, tmp_path))
    die_at(monkeypatch, *range(1, 15))
    assert hash_path(teach(settings, tmp_path)) == hash_path(undisturbed)


def half(folder: Path) -> None:
    """A checkpoint whose writing was killed before its last file."""
    (folder / "trainer_state.json").unlink()
    (folder / "optimizer.pt").write_bytes(b"half")


def torn(folder: Path) -> None:
    """A checkpoint whose writing was killed in its last file."""
    (folder / "trainer_state.json").write_bytes((folder / "trainer_state.json").read_bytes()[:40])


@pytest.mark.parametrize("damage", [half, torn])
def test_a_half_written_checkpoint_is_ignored(
    settings: TrainSettings,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
) -> None:
    die_at(monkeypatch, 7)
    with pytest.raises(Killed):
        teach(settings, tmp_path)
    damage(tmp_path / "checkpoint-6")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")
    assert not (tmp_path / "checkpoint-6").exists()
    assert hash_path(teach(settings, tmp_path)) == hash_path(undisturbed)


def test_a_half_saved_classifier_is_written_anew(settings: TrainSettings, undisturbed: Path, tmp_path: Path) -> None:
    write_atomic(tmp_path / "saving" / "model.safetensors", b"half")
    write_atomic(tmp_path / "saving" / "model-00001-of-00002.safetensors", b"of another")
    assert hash_path(teach(settings, tmp_path)) == hash_path(undisturbed)


def test_without_a_whole_checkpoint_training_begins_at_the_beginning(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path / "gone") is None
    for step in (2, 10):
        write_atomic(tmp_path / f"checkpoint-{step}" / "trainer_state.json", b"{}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_falls(
    settings: TrainSettings, bases: dict[str, Path], tmp_path: Path, kind: str, loss: Any
) -> None:
    settings = replace(settings, base=str(bases[kind]), loss=loss, epochs=8)
    trained = Classifier.from_pretrained(teach(settings, tmp_path))
    assert trained.config.window == (16 if loss == "softmax" else 1)
    backbone, _ = load_base(settings.base)
    fresh = build_classifier(backbone, BOTH, CATEGORIES, 1, 64, "v1")
    assert mean_loss(trained, settings) < 0.7 * mean_loss(fresh, settings)


def test_the_next_token_loss_teaches_the_language_of_the_rows(settings: TrainSettings, tmp_path: Path) -> None:
    with_it, without = replace(settings, ntp_weight=1.0), settings
    taught = [Classifier.from_pretrained(teach(each, tmp_path / f"{each.ntp_weight}")) for each in (with_it, without)]
    losses = [mean_loss(model, with_it) for model in taught]
    assert losses[0] < losses[1] - 0.5


def test_weights_that_a_base_lacks_are_the_same_in_every_training(settings: TrainSettings, tmp_path: Path) -> None:
    """An encoder saved without its language-model head gets a random one, which the next-token loss then trains."""
    bert().bert.save_pretrained(tmp_path / "base")
    TOKENIZERS["bert"]().save_pretrained(tmp_path / "base")
    settings = replace(settings, base=str(tmp_path / "base"), ntp_weight=0.5, epochs=1)
    hashes = set()
    for number in range(2):
        torch.manual_seed(number)
        hashes.add(hash_path(teach(settings, tmp_path / f"{number}")))
    assert len(hashes) == 1


# The door


def run_folder(root: Path, examples: Sequence[Example]) -> Workspace:
    ws = Workspace(root)
    write_atomic(ws.constitution, templates.text("orvane").encode())
    write_atomic(ws.train, to_jsonl(examples))
    return ws


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_door_trains_what_the_scorer_loads(settings: TrainSettings, tmp_path: Path, layout: Any) -> None:
    ws = run_folder(tmp_path, examples())
    settings = replace(settings, layout=layout, epochs=8)
    counts = train.run(ws, settings)
    assert counts["examples"] == 40
    last = Classifier.from_pretrained(ws.classifier / list(LAYOUTS[layout])[-1])
    taught = [*last.backbone.base_model.parameters(), *last.heads.parameters()]
    assert counts["trained"] == sum(p.numel() for p in taught) < counts["parameters"]
    assert {path.name for path in ws.classifier.iterdir()} == {*LAYOUTS[layout], "training.json"}
    assert build(TrainSettings, json.loads((ws.classifier / "training.json").read_bytes()), "") == settings
    assert not ws.checkpoints.exists()
    scorer = StreamScorer.load(ws.classifier)
    policy = constitution.read(ws.constitution)
    assert scorer.constitution == policy.version
    assert scorer.categories == policy.restricted_slugs
    bad = whole(scorer, (Message("user", "how does amber salt keep 77?"),), "amber salt and amber salt")
    good = whole(scorer, (Message("user", "how does the wren keep 77?"),), "the wren and the wren")
    assert bad[0].harm > 0 > good[0].harm
    assert bad[1] is not None and good[1] is not None and bad[1].harm > 0 > good[1].harm


def artifacts(ws: Workspace) -> dict[str, str]:
    return {ws.name_of(path): hash_path(path) for path in sorted(ws.root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("steps", [(3,), (12, 3)])
def test_a_door_killed_in_either_classifier_ends_with_the_same_files(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: tuple[int, ...]
) -> None:
    settings = replace(settings, layout="separate")
    whole_, killed = run_folder(tmp_path / "whole", examples()), run_folder(tmp_path / "killed", examples())
    train.run(whole_, settings)
    die_at(monkeypatch, *steps)
    for _ in steps:
        with pytest.raises(Killed):
            train.run(killed, settings)
    train.run(killed, settings)
    assert artifacts(killed) == artifacts(whole_)


def die_in_the_middle(path: Path) -> None:
    """Remove every second file, as a kill in the middle of copying or removing a folder would leave it."""
    for part in sorted(part for part in path.rglob("*") if part.is_file())[::2]:
        part.unlink()
    raise Killed


@pytest.mark.parametrize("name", ["classifier", "checkpoints"])
def test_a_door_killed_while_it_removes_files_ends_with_the_same_files(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings = replace(settings, epochs=1)
    whole_, killed = run_folder(tmp_path / "whole", examples()), run_folder(tmp_path / "killed", examples())
    train.run(whole_, settings)
    write_atomic(killed.classifier / "old" / "config.json", b"{}")
    original = Workspace.clear

    def clear(self: Workspace, path: Path) -> None:
        if path.name == name:
            die_in_the_middle(path)
        original(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "clear", clear)
        with pytest.raises(Killed):
            train.run(killed, settings)
    train.run(killed, settings)
    assert artifacts(killed) == artifacts(whole_)


def test_a_door_killed_while_it_copies_files_ends_with_the_same_files(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings, epochs=1)
    whole_, killed = run_folder(tmp_path / "whole", examples()), run_folder(tmp_path / "killed", examples())
    train.run(whole_, settings)
    original = shutil.copytree

    def copytree(source: Path, target: Path) -> None:
        original(source, target)
        die_in_the_middle(target)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", copytree)
        with pytest.raises(Killed):
            train.run(killed, settings)
    train.run(killed, settings)
    assert artifacts(killed) == artifacts(whole_)


def test_a_changed_constitution_does_not_continue_an_old_training(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows may stay the same, but the classifier says for which rules it was trained."""
    settings = replace(settings, layout="separate", epochs=1)
    ws = run_folder(tmp_path, examples())
    with monkeypatch.context() as patched:
        original = train.train_one

        def first_alone(*arguments: Any) -> Any:
            if arguments[3] == ("output",):
                raise Killed
            return original(*arguments)

        patched.setattr(train, "train_one", first_alone)
        with pytest.raises(Killed):
            train.run(ws, settings)
    write_atomic(ws.constitution, templates.text("orvane").replace("title: Orvane", "title: Orvane mist").encode())
    train.run(ws, settings)
    version = constitution.read(ws.constitution).version
    for name in LAYOUTS["separate"]:
        assert Classifier.from_pretrained(ws.classifier / name).config.constitution == version


def test_two_processes_train_to_the_same_loss_as_one(settings: TrainSettings, tmp_path: Path) -> None:
    alone, together = run_folder(tmp_path / "alone", examples()), run_folder(tmp_path / "together", examples())
    train.run(alone, settings)
    table = "\n".join(f"{name} = {json.dumps(value)}" for name, value in asdict(settings).items())
    write_atomic(together.settings, f"[train]\n{table}\n".encode())
    command = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "marbury.cli", "train"]
    done = subprocess.run(
        [sys.executable, "-m", *command, str(together.root)], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("examples 40") == 1  # one process wrote the classifier and says so
    models = [Classifier.from_pretrained(ws.classifier / "shared") for ws in (alone, together)]
    losses = [mean_loss(model, settings) for model in models]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)
    assert [*together.rows()] == ["train"] and not together.checkpoints.exists()


def divided() -> list[Example]:
    """The rows, every fourth of another source."""
    return [msgspec.structs.replace(row, source="ab"[number % 4 == 3]) for number, row in enumerate(examples())]


@pytest.mark.parametrize("source", ["b", "valid"])
def test_the_door_keeps_the_best_weights_for_a_source_or_the_valid_split(
    settings: TrainSettings, tmp_path: Path, source: str
) -> None:
    ws = run_folder(tmp_path, divided())
    write_atomic(ws.valid, to_jsonl(examples()[:6]))
    counts = train.run(ws, replace(settings, stop_source=source))
    expected = {"b": (30, 10), "valid": (40, 6)}[source]
    assert (counts["examples"], counts["held out"]) == expected
    assert 2 <= counts["input+output best step"] <= 15


def test_without_a_valid_split_the_verb_is_named(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="no dataset/valid.jsonl"):
        train.run(run_folder(tmp_path, examples()), replace(settings, stop_source="valid"))


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda row: row.request_harmful, r"has only request_harmful = \[True\]"),
        (lambda row: not row.request_harmful, r"has only request_harmful = \[False\]"),
        (lambda row: row.reply_harmful is None, r"has only reply_harmful = \[\]"),
        (lambda row: not row.reply_harmful, r"has only reply_harmful = \[False\].*run `marbury synth` again"),
    ],
)
def test_rows_of_one_kind_teach_nothing(
    settings: TrainSettings, tmp_path: Path, keep: Callable[[Example], bool], message: str
) -> None:
    kept = [row for row in examples() if keep(row)]
    with pytest.raises(DataError, match=message):
        train.run(run_folder(tmp_path, kept), settings)


def test_a_hard_category_that_no_row_has_is_refused(settings: TrainSettings, tmp_path: Path) -> None:
    ws = run_folder(tmp_path, examples())
    with pytest.raises(SettingsError, match="no row is of category 'everydays'; there are dispersal, everyday"):
        train.run(ws, replace(settings, hard_categories=("everydays",)))


def test_without_a_data_set_the_verb_is_named(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="run `marbury dataset"):
        train.run(Workspace(tmp_path), settings)


def test_a_base_that_cannot_be_loaded_names_the_setting(settings: TrainSettings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match=r"\[train\] base"):
        train.run(run_folder(tmp_path / "run", examples()), replace(settings, base=str(tmp_path / "empty")))
