import json
from pathlib import Path

import pytest
import torch
from tiny_classifiers import BASES, BOTH, CATEGORIES, bert, classifier, llama, save_base
from torch import Tensor
from transformers import AutoConfig, AutoModel, DynamicCache

from marbury.classifier.base import load_base
from marbury.classifier.model import Classifier, ClassifierConfig, build, count_parameters

kinds = pytest.mark.parametrize("kind", BASES)


def ids(*size: int, seed: int = 0) -> Tensor:
    return torch.randint(5, 60, size, generator=torch.Generator().manual_seed(seed))


@kinds
def test_a_new_classifier_keeps_the_weights_of_its_base(kind: str) -> None:
    base = BASES[kind]()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model = build(base, BOTH, CATEGORIES, 16, 128, "v1")
    after = model.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@kinds
def test_heads_start_at_zero_so_that_every_text_is_undecided(kind: str) -> None:
    model = classifier(kind, seed=0)
    logits = model.score(model(ids(2, 9)), "output")
    assert logits.shape == (2, 9, 1 + len(CATEGORIES))
    assert (logits == 0).all()


@kinds
def test_saved_and_loaded_it_is_bit_equal(kind: str, tmp_path: Path) -> None:
    model = classifier(kind)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    for loaded in (Classifier.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is Classifier
        ours, theirs = model.state_dict(), loaded.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
        assert all(value.dtype is torch.float32 for value in theirs.values())
        for side in BOTH:
            read = ids(2, 9)
            assert torch.equal(model.score(model(read), side), loaded.eval().score(loaded(read), side))


def test_saved_twice_the_files_are_the_same(tmp_path: Path) -> None:
    for name in ("one", "two"):
        classifier("bert").save_pretrained(tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@kinds
def test_the_configuration_says_what_the_classifier_is(kind: str, tmp_path: Path) -> None:
    classifier(kind, ("output",), window=7, max_tokens=99).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is ClassifierConfig
    assert (config.sides, config.categories) == (["output"], list(CATEGORIES))
    assert (config.window, config.max_tokens, config.constitution) == (7, 99, "v1")
    assert config.base_config().model_type == kind


@kinds
def test_no_path_of_the_machine_is_saved(kind: str, tmp_path: Path) -> None:
    base, tokenizer = load_base(str(save_base(kind, tmp_path / "secret-place")))
    build(base, BOTH, CATEGORIES, 16, 128, "v1").save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").glob("*.json"):
        assert "secret-place" not in path.read_text(encoding="utf-8"), path.name


def test_a_configuration_of_an_older_file_gets_the_defaults() -> None:
    config = ClassifierConfig(base={"model_type": "bert", "hidden_size": 8})
    assert (config.sides, config.categories, config.window, config.max_tokens) == (["input", "output"], [], 1, 512)
    assert config.base_config().hidden_size == 8
    assert json.loads(config.to_json_string())["model_type"] == "marbury-classifier"


def test_no_more_tokens_than_the_base_has_positions() -> None:
    assert classifier("bert", max_tokens=4096).config.max_tokens == 128
    assert classifier("bert", max_tokens=64).config.max_tokens == 64


@pytest.mark.parametrize("tied", [True, False])
def test_tied_embeddings_stay_tied_and_others_stay_apart(tied: bool, tmp_path: Path) -> None:
    build(llama(tied=tied), BOTH, CATEGORIES, 16, 128, "v1").save_pretrained(tmp_path)
    loaded = Classifier.from_pretrained(tmp_path).backbone
    entry, exit_ = loaded.get_input_embeddings().weight, loaded.get_output_embeddings().weight
    assert (entry.data_ptr() == exit_.data_ptr()) is tied
    assert torch.equal(entry, exit_) is tied


def test_the_tied_decoder_of_bert_survives_with_its_bias(tmp_path: Path) -> None:
    base = bert()
    torch.nn.init.normal_(base.cls.predictions.bias)
    build(base, BOTH, CATEGORIES, 16, 128, "v1").save_pretrained(tmp_path)
    loaded = Classifier.from_pretrained(tmp_path).backbone
    assert loaded.get_output_embeddings().weight.data_ptr() == loaded.get_input_embeddings().weight.data_ptr()
    assert torch.equal(loaded.get_output_embeddings().bias, base.cls.predictions.bias)


@kinds
def test_padding_on_the_right_does_not_change_the_states_of_real_tokens(kind: str) -> None:
    model, read = classifier(kind), ids(1, 9)
    padded = torch.cat([read, torch.zeros(1, 5, dtype=torch.long)], 1)
    torch.testing.assert_close(model(padded)[:, :9], model(read))


@kinds
def test_a_state_does_not_know_what_follows(kind: str) -> None:
    model = classifier(kind)
    one, two = ids(1, 12), ids(1, 12, seed=1)
    two[:, :7] = one[:, :7]
    torch.testing.assert_close(model(one)[:, :7], model(two)[:, :7])
    assert not torch.allclose(model(one)[:, 7:], model(two)[:, 7:])


@kinds
@torch.inference_mode()
def test_with_a_cache_a_text_can_come_in_parts(kind: str) -> None:
    model, read = classifier(kind), ids(1, 12)
    cache = DynamicCache(config=model.backbone.config)
    parts = [model(part, cache) for part in torch.split(read, [5, 1, 2, 4], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), model(read))
    assert cache.get_seq_length() == 12


@kinds
def test_the_next_token_logits_are_those_of_the_base(kind: str) -> None:
    base = BASES[kind]().eval()
    model = build(base, BOTH, CATEGORIES, 16, 128, "v1").eval()
    read = ids(2, 6)
    states, logits = model(read, next_token=True)
    assert torch.equal(states, model(read))
    assert torch.equal(logits, base(input_ids=read).logits)


def test_parameters_are_counted_in_all_and_as_far_as_they_are_trained() -> None:
    model = classifier("llama")
    total, trained = count_parameters(model)
    assert total == trained
    head = 16 * (1 + len(CATEGORIES)) + 1 + len(CATEGORIES)
    assert sum(p.numel() for p in model.heads.parameters()) == 2 * head
    model.backbone.requires_grad_(False)
    assert count_parameters(model) == (total, 2 * head)


@kinds
def test_heads_may_read_all_layers(kind: str, tmp_path: Path) -> None:
    base = BASES[kind]().eval()
    model = build(base, BOTH, CATEGORIES, 16, 128, "v1", "all").eval()
    states = model(ids(2, 9))
    layers = base(input_ids=ids(2, 9), output_hidden_states=True).hidden_states[1:]
    assert states.shape == (2, 9, model.config.state_width()) == (2, 9, 16 * len(layers))
    for number, layer in enumerate(layers):
        part = states[..., 16 * number : 16 * (number + 1)]
        centred = layer - layer.mean(-1, keepdim=True)
        torch.testing.assert_close(part, centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt())
    torch.nn.init.normal_(model.heads["output"].weight)
    model.save_pretrained(tmp_path)
    loaded = Classifier.from_pretrained(tmp_path).eval()
    assert loaded.config.reads == "all"
    assert torch.equal(loaded.score(loaded(ids(2, 9)), "output"), model.score(states, "output"))
