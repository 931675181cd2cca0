from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_classifiers import BOTH, classifier, encoder, save_base
from tiny_training import CATEGORIES, examples, mean_loss, settings_for, teach

from marbury.classifier import trainer
from marbury.classifier.balance import weigh
from marbury.classifier.base import load_base
from marbury.classifier.batches import Collator, Row, Shuffle, encode_all
from marbury.classifier.encoding import Encoder
from marbury.classifier.losses import LOSSES, Loss, prefix
from marbury.classifier.model import Classifier, build
from marbury.classifier.settings import TrainSettings
from marbury.errors import SettingsError
from marbury.scoring import Side
from marbury.settings import build as build_settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    return settings_for(save_base("bert", tmp_path_factory.mktemp("base")))


def rows_of(settings: TrainSettings) -> list[Row]:
    encoded = encode_all(examples(), Encoder(load_base(settings.base)[1]), CATEGORIES, 64, BOTH)
    return weigh(encoded, settings)


def collate(rows: list[Row]) -> dict[str, torch.Tensor]:
    return Collator(0, len(CATEGORIES))([{"row": row} for row in rows])


def test_batches_come_in_the_order_of_the_shuffle_and_progress_goes_from_zero_to_one(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progresses, lengths = [], []

    def note(model: Any, batch: Any, sides: Any, settings: Any, progress: float) -> Any:
        progresses.append(progress)
        lengths.extend(batch["mask"].sum(1).tolist())
        return original(model, batch, sides, settings, progress)

    original = trainer.batch_loss
    monkeypatch.setattr(trainer, "batch_loss", note)
    teach(settings, tmp_path)
    assert progresses == [pytest.approx(step / 15) for step in range(15)]
    encoded = rows_of(settings)
    shuffle, expected = Shuffle(encoded, 8, settings.seed), []
    for epoch in range(3):
        shuffle.set_epoch(epoch)
        expected += [len(encoded[i].ids) for i in shuffle]
    assert lengths == expected


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_a_batch_is_made_of_the_losses_of_its_sides(settings: TrainSettings, loss: Any) -> None:
    settings = replace(settings, loss=loss, category_weight=0.5)
    model = classifier("bert")
    rows = weigh(encode_all(examples(), encoder("bert"), CATEGORIES, 64, BOTH), settings)
    expected = 0.0
    with torch.no_grad():
        for row in rows:
            hidden = model(torch.tensor([row.ids]))
            sides: list[tuple[Side, Loss, float, list[tuple[int, int, bool]]]]
            sides = [("input", prefix, row.input_weight, [(end.at, end.at + 1, end.harmful) for end in row.ends])]
            sides += [("output", LOSSES[loss], row.output_weight, [(*reply,) for reply in row.replies])]
            for side, each, weight, taught in sides:
                for start, stop, harmful in taught:
                    logits = model.score(hidden[:, start:stop], side)
                    labels = torch.zeros(1, 3)
                    if harmful:
                        labels[0, 0] = labels[0, 1 + (row.category or 0)] = 1
                    harm, *others = each(logits, torch.ones(1, stop - start, dtype=torch.bool), labels, 0.3)[0].tolist()
                    expected += weight / len(taught) * (harm + 0.5 * sum(others) / 2)
        found = trainer.batch_loss(model, collate(rows), BOTH, settings, 0.3).item()
    assert found == pytest.approx(expected / len(rows), rel=1e-5)


def test_a_side_learns_from_its_own_labels_alone(settings: TrainSettings) -> None:
    backbone, tokenizer = load_base(settings.base)
    model = build(backbone, BOTH, CATEGORIES, 16, 64, "v1")
    batch = collate(rows_of(settings))
    for side in BOTH:
        heads = dict(model.heads.named_parameters())
        loss = trainer.batch_loss(model, batch, (side,), settings, 0.5)
        gradients = torch.autograd.grad(loss, list(heads.values()), allow_unused=True)
        moved = {name for name, gradient in zip(heads, gradients, strict=True) if gradient is not None}
        assert moved == {f"{side}.weight", f"{side}.bias"}
        assert loss.item() == pytest.approx((1 + settings.category_weight) * 0.6931, abs=1e-3)


def test_parts_of_a_batch_have_in_the_mean_the_loss_of_the_whole(settings: TrainSettings) -> None:
    """Also where some parts have no reply: this is what makes accumulation and several processes agree with one."""
    model, rows = classifier("bert"), rows_of(settings)[8:24]
    rows.sort(key=lambda row: len(row.replies))
    settings = replace(settings, ntp_weight=0.5)
    with torch.no_grad():
        whole = trainer.batch_loss(model, collate(rows), BOTH, settings, 0.5).item()
        parts = [trainer.batch_loss(model, collate(rows[at : at + 2]), BOTH, settings, 0.5) for at in range(0, 16, 2)]
    assert torch.stack(parts).mean().item() == pytest.approx(whole, rel=1e-5)


def test_in_parts_the_weights_become_the_same_but_for_rounding(settings: TrainSettings, tmp_path: Path) -> None:
    models = [
        Classifier.from_pretrained(teach(replace(settings, accumulate=parts), tmp_path / f"{parts}"))
        for parts in (1, 4)
    ]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)
    assert mean_loss(models[1], settings) == pytest.approx(mean_loss(models[0], settings), rel=1e-2)


def test_bf16_trains_to_nearly_the_same_loss_and_saves_fp32(settings: TrainSettings, tmp_path: Path) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        trained = teach(replace(settings, precision=precision), tmp_path / precision)
        model = Classifier.from_pretrained(trained)
        assert {value.dtype for value in model.parameters()} == {torch.float32}
        losses.append(mean_loss(model, settings))
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.25)


def test_bf16_is_chosen_where_the_hardware_is_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    for able in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"amx_bf16": able})
        assert trainer.uses_bf16("auto") is able
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert not trainer.uses_bf16("auto")  # no x86 at all
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert not trainer.uses_bf16("auto")  # a GPU of another maker
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for able in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able: able)
        assert trainer.uses_bf16("auto") is able
    assert trainer.uses_bf16("bf16") and not trainer.uses_bf16("fp32")


def test_a_batch_that_cannot_be_shared_out_is_refused(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "devices", lambda: 3)
    with pytest.raises(SettingsError, match="batch_size 8 cannot be divided into 6 equal parts"):
        trainer.arguments(replace(settings, accumulate=2), tmp_path, 40, stops=False)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"epochs": 0}, "epochs must be greater than 0, not 0"),
        ({"batch_size": -1}, "batch_size must be greater than 0"),
        ({"accumulate": 0}, "accumulate must be greater than 0"),
        ({"learning_rate": 0}, "learning_rate must be greater than 0"),
        ({"head_learning_rate": 0}, "head_learning_rate must be greater than 0"),
        ({"lora_rank": 0}, "lora_rank must be greater than 0"),
        ({"hard_weight": 0}, "hard_weight must be greater than 0"),
        ({"max_tokens": 31}, "max_tokens must be at least 32, not 31"),
        ({"batch_size": 16, "accumulate": 3}, "batch_size 16 cannot be divided into 3 equal parts"),
        ({"ntp_weight": 0.1, "reads": "all"}, "ntp_weight needs reads"),
        ({"ntp_weight": 0.1, "tune": "frozen"}, "ntp_weight needs reads"),
        ({"loss": "softmaks"}, "Invalid enum value 'softmaks'"),
        ({"layout": "one"}, "Invalid enum value 'one'"),
        ({"tune": "half"}, "Invalid enum value 'half'"),
    ],
)
def test_settings_out_of_range_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build_settings(TrainSettings, table, "[train]")
