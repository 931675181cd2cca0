import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_classifiers import BOTH, TOKENIZERS, bert, classifier, encoder, save_base

from marbury import constitution
from marbury.classifier import train
from marbury.classifier.base import load_base
from marbury.classifier.batches import Collator, Shuffle, encode_all
from marbury.classifier.encoding import Encoder
from marbury.classifier.losses import LOSSES, prefix
from marbury.classifier.model import Classifier
from marbury.classifier.model import build as build_classifier
from marbury.classifier.scorer import StreamScorer
from marbury.classifier.train import LAYOUTS, TrainSettings, last_checkpoint, train_one
from marbury.constitution import templates
from marbury.errors import DataError, SettingsError, WorkspaceError
from marbury.records import Example, Message, to_jsonl
from marbury.scoring import Side, whole
from marbury.settings import build
from marbury.workspace import Workspace, hash_path, write_atomic

CATEGORIES = ["preparation", "dispersal"]


def rows() -> list[Example]:
    """Forty exchanges: the amber ones are harmful, in two categories; a few replies refuse, two rows are requests."""
    made = []
    for number in range(40):
        harmful = number % 2 == 0
        refused = number % 8 == 0
        thing = "amber salt" if harmful else "the wren"
        messages = [Message("user", f"how does {thing} {'keep ' * (number % 5)}{number}?")]
        if number not in (9, 18):
            answer = "no, ask the keeper" if refused else f"{thing} and {thing} and {number}"
            messages.append(Message("assistant", answer))
        made.append(
            Example(
                id=f"e{number}",
                category=CATEGORIES[number // 2 % 2] if harmful else "everyday",
                messages=tuple(messages),
                request_harmful=harmful,
                reply_harmful=(harmful and not refused) if len(messages) == 2 else None,
                pair=f"p{number}",
            )
        )
    return made


class Killed(RuntimeError):
    """Stands for a kill without warning."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_base(kind, tmp_path_factory.mktemp(kind)) for kind in ("bert", "llama")}


@pytest.fixture(scope="module")
def settings(bases: dict[str, Path]) -> TrainSettings:
    return TrainSettings(
        base=str(bases["bert"]),
        epochs=3,
        batch_size=8,
        learning_rate=3e-3,
        head_learning_rate=3e-2,
        freeze_layers=0,
        max_tokens=64,
    )


def teach(settings: TrainSettings, place: Path, sides: tuple[Side, ...] = BOTH) -> Path:
    """Train one classifier; gives where it was saved."""
    train_one(rows(), CATEGORIES, "v1", sides, settings, place, place / "final")
    return place / "final"


def die_at(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Let trainings die after these steps, one after the other."""
    original, left = train.ShowProgress.on_step_end, list(steps)

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        original(self, args, state, control, **rest)
        if left and state.global_step == left[0]:
            raise Killed(left.pop(0))

    monkeypatch.setattr(train.ShowProgress, "on_step_end", on_step_end)


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


def mean_loss(model: Classifier, settings: TrainSettings, sides: Sequence[Side] = BOTH) -> float:
    """The loss on all rows at once, at the end of training."""
    _, tokenizer = load_base(settings.base)
    encoded = encode_all(rows(), Encoder(tokenizer), CATEGORIES, 64, sides)
    batch = Collator(0, len(CATEGORIES))([{"row": row} for row in encoded])
    with torch.no_grad():
        return train.batch_loss(model, batch, sides, settings, 1.0).item()


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


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_frozen_layers_stay_bit_equal_and_the_others_learn(
    settings: TrainSettings, bases: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    settings = replace(settings, base=str(bases[kind]), freeze_layers=1, epochs=1)
    after = Classifier.from_pretrained(teach(settings, tmp_path)).backbone.base_model.state_dict()
    before = load_base(settings.base)[0].base_model.state_dict()
    assert before.keys() == after.keys()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    still = set(before) - moved
    assert all("embed" in name or ".0." in name or "rotary" in name for name in still), still
    assert not any("embed" in name or ".0." in name for name in moved)
    assert any(".1." in name for name in moved)


def test_nothing_is_frozen_unless_asked(settings: TrainSettings, undisturbed: Path) -> None:
    after = Classifier.from_pretrained(undisturbed).backbone.base_model.state_dict()
    before = load_base(settings.base)[0].base_model.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert {"embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"} <= moved


def test_batches_come_in_the_order_of_the_shuffle_and_progress_goes_from_zero_to_one(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progresses, lengths = [], []

    def note(model: Any, batch: Any, sides: Any, settings: Any, progress: float) -> Any:
        progresses.append(progress)
        lengths.extend(batch["mask"].sum(1).tolist())
        return original(model, batch, sides, settings, progress)

    original = train.batch_loss
    monkeypatch.setattr(train, "batch_loss", note)
    teach(settings, tmp_path)
    assert progresses == [pytest.approx(step / 15) for step in range(15)]
    encoded = encode_all(rows(), Encoder(load_base(settings.base)[1]), CATEGORIES, 64, BOTH)
    shuffle, expected = Shuffle(encoded, 8, settings.seed), []
    for epoch in range(3):
        shuffle.set_epoch(epoch)
        expected += [len(encoded[i].ids) for i in shuffle]
    assert lengths == expected


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_a_batch_is_made_of_the_losses_of_its_sides(settings: TrainSettings, loss: Any) -> None:
    settings = replace(settings, loss=loss, category_weight=0.5)
    model, read = classifier("bert"), encoder("bert")
    batch = Collator(0, 2)([{"row": row} for row in encode_all(rows(), read, CATEGORIES, 64, BOTH)])
    with torch.no_grad():
        hidden = model(batch["ids"])
        asked = torch.stack([hidden[i, at] for i, at in enumerate(batch["request_at"])])
        one = torch.ones(len(asked), 1, dtype=torch.bool)
        expected = 0.0
        for c, weight in enumerate((1.0, 0.25, 0.25)):
            each = model.score(asked, "input")[:, None, c]
            expected += weight * prefix(each, one, batch["request"][:, c], 0.3).item()
            each = model.score(hidden, "output")[..., c]
            expected += weight * LOSSES[loss](each, batch["reply_mask"], batch["reply"][:, c], 0.3).item()
        assert train.batch_loss(model, batch, BOTH, settings, 0.3).item() == pytest.approx(expected, rel=1e-5)


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


def test_a_side_learns_from_its_own_labels_alone(settings: TrainSettings) -> None:
    backbone, tokenizer = load_base(settings.base)
    model = build_classifier(backbone, BOTH, CATEGORIES, 16, 64, "v1")
    encoded = encode_all(rows(), Encoder(tokenizer), CATEGORIES, 64, BOTH)
    batch = Collator(0, 2)([{"row": row} for row in encoded])
    for side in BOTH:
        heads = dict(model.heads.named_parameters())
        loss = train.batch_loss(model, batch, (side,), settings, 0.5)
        gradients = torch.autograd.grad(loss, list(heads.values()), allow_unused=True)
        moved = {name for name, gradient in zip(heads, gradients, strict=True) if gradient is not None}
        assert moved == {f"{side}.weight", f"{side}.bias"}
        assert loss.item() == pytest.approx((1 + settings.category_weight) * 0.6931, abs=1e-3)


# The door


def run_folder(root: Path, examples: Sequence[Example]) -> Workspace:
    ws = Workspace(root)
    write_atomic(ws.constitution, templates.text("orvane").encode())
    write_atomic(ws.train, to_jsonl(examples))
    return ws


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_door_trains_what_the_scorer_loads(settings: TrainSettings, tmp_path: Path, layout: Any) -> None:
    ws = run_folder(tmp_path, rows())
    settings = replace(settings, layout=layout, epochs=8)
    counts = train.run(ws, settings)
    assert counts["examples"] == 40
    assert counts["trained"] == counts["parameters"]
    assert {path.name for path in ws.classifier.iterdir()} == {*LAYOUTS[layout], "training.json"}
    assert json.loads((ws.classifier / "training.json").read_bytes()) == asdict(settings)
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
    whole_, killed = run_folder(tmp_path / "whole", rows()), run_folder(tmp_path / "killed", rows())
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
    whole_, killed = run_folder(tmp_path / "whole", rows()), run_folder(tmp_path / "killed", rows())
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
    whole_, killed = run_folder(tmp_path / "whole", rows()), run_folder(tmp_path / "killed", rows())
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
    ws = run_folder(tmp_path, rows())
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
    kept = [row for row in rows() if keep(row)]
    with pytest.raises(DataError, match=message):
        train.run(run_folder(tmp_path, kept), settings)


def test_without_a_data_set_the_verb_is_named(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="run `marbury dataset"):
        train.run(Workspace(tmp_path), settings)


def test_a_base_that_cannot_be_loaded_names_the_setting(settings: TrainSettings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match=r"\[train\] base"):
        train.run(run_folder(tmp_path / "run", rows()), replace(settings, base=str(tmp_path / "empty")))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"epochs": 0}, "epochs must be greater than 0, not 0"),
        ({"batch_size": -1}, "batch_size must be greater than 0"),
        ({"learning_rate": 0}, "learning_rate must be greater than 0"),
        ({"head_learning_rate": 0}, "head_learning_rate must be greater than 0"),
        ({"max_tokens": 31}, "max_tokens must be at least 32, not 31"),
        ({"loss": "softmaks"}, "Invalid enum value 'softmaks'"),
        ({"layout": "one"}, "Invalid enum value 'one'"),
    ],
)
def test_settings_out_of_range_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build(TrainSettings, table, "[train]")
