import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_classifiers import BASES, BOTH, CATEGORIES, llama, save_base
from tiny_training import mean_loss, settings_for, teach

from marbury.classifier import trainer
from marbury.classifier.base import load_base
from marbury.classifier.model import Classifier, build
from marbury.classifier.scorer import StreamScorer
from marbury.classifier.settings import TrainSettings
from marbury.classifier.tuning import adapt, merge, prepare
from marbury.errors import SettingsError
from marbury.records import Message
from marbury.scoring import whole
from marbury.workspace import hash_path

kinds = pytest.mark.parametrize("kind", ["bert", "llama"])


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_base(kind, tmp_path_factory.mktemp(kind)) for kind in BASES}


def moved(trained: Path, settings: TrainSettings) -> set[str]:
    """Names of the backbone's weights that are not those of the base."""
    after = Classifier.from_pretrained(trained).backbone.state_dict()
    before = load_base(settings.base)[0].state_dict()
    assert before.keys() == after.keys()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def fresh(kind: str, settings: TrainSettings) -> Classifier:
    model = build(BASES[kind](), BOTH, CATEGORIES, 16, 64, "v1", settings.reads)
    prepare(model, settings)
    return model


@kinds
def test_frozen_layers_stay_bit_equal_and_the_others_learn(bases: dict[str, Path], tmp_path: Path, kind: str) -> None:
    settings = replace(settings_for(bases[kind]), freeze_layers=1, epochs=1)
    names = moved(teach(settings, tmp_path), settings)
    assert not any("embed" in name or ".0." in name for name in names)
    assert {name for name in fresh_names(kind) if ".1." in name} <= names


def fresh_names(kind: str) -> set[str]:
    return set(BASES[kind]().state_dict())


def test_nothing_is_frozen_unless_asked(bases: dict[str, Path], tmp_path: Path) -> None:
    settings = replace(settings_for(bases["bert"]), epochs=1)
    names = moved(teach(settings, tmp_path), settings)
    assert {"bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.attention.self.query.weight"} <= names


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_head_is_trained_only_where_something_teaches_it(tied: bool) -> None:
    settings = TrainSettings(freeze_layers=0)
    for weight in (0.0, 0.1):
        model = build(llama(tied=tied), BOTH, CATEGORIES, 16, 64, "v1")
        prepare(model, replace(settings, ntp_weight=weight))
        assert model.backbone.get_input_embeddings().weight.requires_grad
        assert model.backbone.get_output_embeddings().weight.requires_grad is (tied or weight > 0)


@kinds
@pytest.mark.parametrize("reads", ["last", "all"])
def test_on_a_frozen_base_the_heads_learn_alone(bases: dict[str, Path], tmp_path: Path, kind: str, reads: Any) -> None:
    settings = replace(settings_for(bases[kind]), tune="frozen", reads=reads, epochs=8)
    trained = teach(settings, tmp_path)
    assert moved(trained, settings) == set()
    model = Classifier.from_pretrained(trained)
    assert model.config.reads == reads
    assert model.heads["input"].in_features == 16 * (2 if reads == "all" else 1)
    assert mean_loss(model, settings) < 0.8 * mean_loss(fresh(kind, settings), settings)


@kinds
def test_lora_learns_and_leaves_a_classifier_like_any_other(bases: dict[str, Path], tmp_path: Path, kind: str) -> None:
    settings = replace(settings_for(bases[kind]), tune="lora", lora_rank=4, freeze_layers=1, epochs=8)
    trained = teach(settings, tmp_path)
    names = moved(trained, settings)
    assert names and all(".1." in name and name.endswith("weight") for name in names)
    model = Classifier.from_pretrained(trained)
    assert mean_loss(model, settings) < 0.8 * mean_loss(fresh(kind, settings), settings)
    shutil.copytree(trained, tmp_path / "run" / "shared")
    scorer = StreamScorer.load(tmp_path / "run")
    asked = [(Message("user", f"how does {thing} keep 77?"),) for thing in ("amber salt", "the wren")]
    bad, good = (whole(scorer, request, None)[0].harm for request in asked)
    assert bad > good


def test_merged_adapters_say_the_same_as_adapters_beside_the_weights() -> None:
    model = build(BASES["llama"](), BOTH, CATEGORIES, 16, 64, "v1")
    plain = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    adapt(model, 2, 0)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    ids = torch.randint(5, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(ids)
        merge(model)
        torch.testing.assert_close(model(ids), before)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == plain


def test_only_adapters_and_heads_are_trained() -> None:
    model = fresh("bert", TrainSettings(tune="lora", freeze_layers=1))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name and ".1." in name or name.startswith("heads") for name in trained)
    assert sum("lora_A" in name for name in trained) == 6  # query, key, value, and three more of a BERT layer


def test_a_lora_training_that_was_killed_goes_on(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings_for(bases["bert"]), tune="lora", lora_rank=4)
    undisturbed = teach(settings, tmp_path / "undisturbed")

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(trainer.ShowProgress, "on_step_end", on_step_end)
        with pytest.raises(KeyboardInterrupt):
            teach(settings, tmp_path / "killed")
    assert hash_path(teach(settings, tmp_path / "killed")) == hash_path(undisturbed)


def test_adapters_without_a_layer_are_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    settings = replace(settings_for(bases["bert"]), tune="lora", freeze_layers=2)
    with pytest.raises(SettingsError, match=r"\[train\] no matrix is left to adapt above 2 frozen layers"):
        teach(settings, tmp_path)
