"""Any base: each family is loaded, learns, is saved and loaded again, and reads a stream as it reads the whole."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_classifiers import BOTH
from tiny_families import BASES, SIZES, save_base, tokenizer
from tiny_training import CATEGORIES, examples, mean_loss, settings_for, teach
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from marbury.classifier.base import load_base
from marbury.classifier.batches import Collator, encode_all
from marbury.classifier.encoding import TURNS, Encoder, special_tokens
from marbury.classifier.losses import windowed_mean
from marbury.classifier.model import Classifier, build
from marbury.classifier.scorer import StreamScorer
from marbury.classifier.settings import TrainSettings
from marbury.classifier.torch_engine import TorchEngine
from marbury.classifier.train import train_one
from marbury.classifier.trainer import batch_loss
from marbury.errors import SettingsError
from marbury.records import Message
from marbury.scoring import Score, whole

bases = pytest.mark.parametrize("base", BASES)
OPENINGS = {
    "llama": "<|start_header_id|>",
    "qwen3": "<|im_start|>",
    "gemma2": "<start_of_turn>",
    "gemma3": "<start_of_turn>",
}
TIED = {"qwen3", "gemma2", "gemma3"}
REQUEST = (Message("system", "Keep the lamp."), Message("user", "how does amber salt keep?"))
SHORT = "Amber salt,\n\n the wren 睡."
LONG = f"{SHORT} 守灯 sings 🌙\u200d👩 <|user|><|im_start|>user\n [unused1] and THE lamplighter's tin. {SHORT * 3}"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {base: save_base(base, tmp_path_factory.mktemp(base)) for base in BASES}


def untrained(settings: TrainSettings) -> Classifier:
    backbone, _ = load_base(settings.base)
    return build(backbone, BOTH, CATEGORIES, 16, settings.max_tokens, "v1", settings.reads).eval()  # type: ignore[no-any-return]


def streamed(scorer: StreamScorer, text: str, every: int) -> list[Score]:
    reply = scorer.read(REQUEST).reply()
    edges = [*range(0, len(text), every), len(text)]
    scores = [score for a, b in pairwise(edges) for score in reply.push(text[a:b])] + reply.finish()
    reply.close()
    return scores


@torch.no_grad()
def in_one_pass(place: Path, text: str) -> list[float]:
    """The running harm of a reply from one reading of the whole conversation, without a memory."""
    model, encoder = Classifier.from_pretrained(place), Encoder(AutoTokenizer.from_pretrained(place))
    asked, _ = encoder.request(REQUEST)
    ids = asked + encoder.text(text)
    assert len(ids) < model.config.max_tokens - len(encoder.markers["assistant"])
    logits = model.score(model(torch.tensor([ids])), "output")[:, len(asked) :]
    everywhere = torch.ones(logits.shape[:2], dtype=torch.bool)
    harm: list[float] = windowed_mean(logits, everywhere, model.config.window)[0, :, 0].tolist()
    return harm


def changed(place: Path, settings: TrainSettings) -> set[str]:
    """Names of the backbone's weights that are not those of the base."""
    after = Classifier.from_pretrained(place).backbone.state_dict()
    before = load_base(settings.base)[0].state_dict()
    assert before.keys() == after.keys()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@bases
def test_a_base_learns_is_saved_and_streams_what_it_reads_in_one_pass(
    folders: dict[str, Path], tmp_path: Path, base: str
) -> None:
    settings = replace(settings_for(folders[base]), freeze_layers=1, max_tokens=96)
    place = tmp_path / "both"
    train_one(examples(), CATEGORIES, "v1", BOTH, settings, tmp_path / "work", place)
    assert mean_loss(Classifier.from_pretrained(place), settings) < 0.7 * mean_loss(untrained(settings), settings)
    names = changed(place, settings)  # the lowest layer and the embeddings are not among them
    assert {name.split(".layers.")[1][0] for name in names if ".layers." in name} == {"1", "2"}
    assert not any("embed" in name for name in names)
    scorer = StreamScorer.load(tmp_path)
    harm = [score.harm for score in streamed(scorer, SHORT, 1)]
    assert np.std(harm) > 0.01
    assert harm == pytest.approx(in_one_pass(place, SHORT), abs=1e-4)
    everything = streamed(scorer, LONG, len(LONG))  # longer than the window: it begins again in the midst of it
    assert max(everything, key=lambda score: score.harm) == whole(scorer, REQUEST, LONG)[1]
    for every in (1, 7):
        found = streamed(scorer, LONG, every)
        assert [score.end for score in found] == [score.end for score in everything]
        assert [score.harm for score in found] == pytest.approx([score.harm for score in everything], abs=1e-4)


@bases
def test_adapters_teach_a_base_and_leave_a_classifier_like_any_other(
    folders: dict[str, Path], tmp_path: Path, base: str
) -> None:
    settings = replace(settings_for(folders[base]), tune="lora", lora_rank=4, freeze_layers=1, epochs=4)
    place = tmp_path / "both"
    train_one(examples(), CATEGORIES, "v1", BOTH, settings, tmp_path / "work", place)
    assert mean_loss(Classifier.from_pretrained(place), settings) < 0.8 * mean_loss(untrained(settings), settings)
    names = changed(place, settings)
    assert names and all((".1." in name or ".2." in name) and name.endswith("weight") for name in names)
    assert len(streamed(StreamScorer.load(tmp_path), SHORT, 3)) > 5


def test_adapters_keep_to_the_upper_layers_of_a_mixture_of_experts(tmp_path: Path) -> None:
    values = {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 8,
    }
    values |= {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
    folder = save_base("gpt_neox", tmp_path / "base")
    config = AutoConfig.for_model("deepseek_v3", **{**SIZES, **values, "first_k_dense_replace": 0})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    settings = replace(settings_for(folder), tune="lora", lora_rank=4, freeze_layers=1, epochs=1)
    place = tmp_path / "run" / "both"
    train_one(examples(), CATEGORIES, "v1", BOTH, settings, tmp_path / "work", place)
    names = changed(place, settings)
    assert {name.split(".layers.")[1][0] for name in names} == {"1", "2"}
    assert any("shared_experts" in name for name in names) and not any(".experts." in name for name in names)
    assert len(streamed(StreamScorer.load(tmp_path / "run"), SHORT, 3)) > 5


def test_a_base_that_cannot_be_streamed_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    folder = save_base("gpt_neox", tmp_path / "base")
    AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba", **SIZES)).save_pretrained(folder)
    with pytest.raises(SettingsError, match=r"\[train\] a base of type mamba does not keep .* take another base"):
        teach(settings_for(folder), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_trying_a_base_leaves_it_as_it_was(folders: dict[str, Path]) -> None:
    model = untrained(settings_for(folders["qwen3"])).train()
    attention, before = model.backbone.config._attn_implementation, torch.get_rng_state()
    TorchEngine.check(model)
    assert model.training and model.backbone.training
    assert model.backbone.config._attn_implementation == attention
    assert torch.equal(torch.get_rng_state(), before)


@bases
def test_heads_that_read_all_layers_learn_on_a_frozen_base(folders: dict[str, Path], tmp_path: Path, base: str) -> None:
    settings = replace(settings_for(folders[base]), tune="frozen", reads="all", epochs=3)
    trained = teach(settings, tmp_path)
    assert changed(trained, settings) == set()
    assert mean_loss(Classifier.from_pretrained(trained), settings) < 0.8 * mean_loss(untrained(settings), settings)


@bases
def test_the_next_token_is_learned_through_the_heads_of_each_base(
    folders: dict[str, Path], tmp_path: Path, base: str
) -> None:
    settings = replace(settings_for(folders[base]), ntp_weight=1.0)
    before = untrained(settings)
    same = before.backbone.get_output_embeddings().weight is before.backbone.get_input_embeddings().weight
    assert same == (base in TIED)
    after = Classifier.from_pretrained(teach(settings, tmp_path))
    output = after.backbone.get_output_embeddings().weight
    assert (output is after.backbone.get_input_embeddings().weight) == same
    assert not torch.equal(output, before.backbone.get_output_embeddings().weight)
    assert next_token(after, settings) < 0.8 * next_token(before, settings)


@bases
@torch.no_grad()
def test_the_next_token_logits_are_those_of_the_base_also_where_it_caps_them(
    folders: dict[str, Path], base: str
) -> None:
    model = untrained(settings_for(folders[base]))
    read = torch.arange(5, 25)[None]
    _, logits = model(read, next_token=True)
    assert torch.equal(logits, model.backbone(input_ids=read).logits)
    plain = model.backbone.get_output_embeddings()(model(read))
    assert torch.allclose(logits, plain) == (base != "gemma2")


@bases
@torch.no_grad()
def test_the_next_token_loss_is_that_of_transformers(folders: dict[str, Path], base: str) -> None:
    model = untrained(settings_for(folders[base]))
    encoder = Encoder(load_base(str(folders[base]))[1])
    ids = [torch.tensor([row.ids]) for row in encode_all(examples()[:5], encoder, CATEGORIES, 64, BOTH)]
    losses = [model.backbone(input_ids=read, labels=read).loss.item() for read in ids]
    assert next_token(model, settings_for(folders[base]), 5) == pytest.approx(np.mean(losses), rel=1e-4)


@torch.no_grad()
def next_token(model: Classifier, settings: TrainSettings, rows: int = 40) -> float:
    """The next-token loss alone, on the first rows."""
    encoder = Encoder(load_base(settings.base)[1])
    batch = Collator(0, 2)([{"row": row} for row in encode_all(examples()[:rows], encoder, CATEGORIES, 64, BOTH)])
    both, without = (
        batch_loss(model, batch, BOTH, replace(settings, ntp_weight=weight), 1.0).item() for weight in (1.0, 0.0)
    )
    return both - without


@bases
def test_turns_are_marked_as_the_base_does_itself_or_by_new_tokens(folders: dict[str, Path], base: str) -> None:
    published = tokenizer(base)
    model, loaded = load_base(str(folders[base]))
    markers = Encoder(loaded).markers
    if base in OPENINGS:
        assert len(loaded) == len(published)
        first = {loaded.convert_ids_to_tokens(marker[0]) for marker in markers.values()}
        assert first == {OPENINGS[base]}
    else:
        assert len(loaded) == len(published) + 4
        assert {role: (loaded.convert_ids_to_tokens(list(marker))) for role, marker in markers.items()} == {
            role: [TURNS[role if role != "developer" else "system"]] for role in markers
        }
    assert len(set(markers.values())) == 4
    rows = model.get_input_embeddings().weight.shape[0]
    assert rows == model.config.vocab_size == model.get_output_embeddings().weight.shape[0] >= len(loaded)


@bases
def test_nobody_can_type_what_marks_a_turn(folders: dict[str, Path], base: str) -> None:
    _, loaded = load_base(str(folders[base]))
    encoder = Encoder(loaded)
    marks = {marker[0] for marker in encoder.markers.values()}
    special = special_tokens(loaded)
    assert marks <= set(special.values())
    typed = [*special, *TURNS.values(), *OPENINGS.values(), "[unused1]"]
    for marker in encoder.markers.values():
        whole_mark = loaded.decode(list(marker))
        typed += [whole_mark, f" {whole_mark}", f"a{whole_mark}b", f"\n\n{whole_mark}\n", whole_mark.upper()]
    typed = [text for text in typed if text != "<unk>"]  # SentencePiece knows it as a word; it stands for itself alone
    for text in typed:
        assert set(special.values()).isdisjoint(encoder.text(text)), text
        assert len(encoder.text(text)) > 2


def test_a_chat_template_goes_along_and_changes_nothing(folders: dict[str, Path]) -> None:
    with_template, without = load_base(str(folders["qwen3"]))[1], load_base(str(folders["qwen3"]))[1]
    without.chat_template = None
    assert with_template.chat_template
    assert Encoder(with_template).request(REQUEST) == Encoder(without).request(REQUEST)
