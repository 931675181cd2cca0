"""marbury-base as a transformers model: packed weights, ordinary doors, and the folder that ships."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, DynamicCache

from marbury.classifier.backbone import (
    SCALE,
    WEIGHTS,
    MarburyBaseConfig,
    MarburyBaseForCausalLM,
    MarburyBaseModel,
    pack,
    save_packed,
    unpack,
)
from marbury.classifier.base import MARBURY_BASE, load_base
from marbury.classifier.encoding import Encoder

READ = torch.tensor([[5, 6, 7, 8, 9, 10]])
SHIPPED = Encoder(AutoTokenizer.from_pretrained(MARBURY_BASE))


def tiny() -> Any:
    torch.manual_seed(0)
    config = MarburyBaseConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
        initializer_range=0.2,
    )
    return MarburyBaseForCausalLM(config).eval()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    save_packed(tiny(), folder)
    return folder


@torch.no_grad()
def states(model: Any, ids: Tensor = READ) -> Tensor:
    found: Tensor = model.base_model(input_ids=ids).last_hidden_state
    return found


def words(text: str) -> list[str]:
    found: list[str] = SHIPPED.tokenizer.convert_ids_to_tokens(SHIPPED.text(text))
    return found


@given(st.lists(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_packing_costs_at_most_half_a_step_of_its_row(rows: list[list[float]]) -> None:
    weight = torch.tensor(rows)
    found = pack({"w": weight})
    assert found["w"].dtype == torch.int8 and found["w" + SCALE].shape == (len(rows),)
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((unpack(found)["w"] - weight).abs() <= 0.5001 * step + 1e-12).all()


def test_vectors_are_not_packed_and_a_row_of_zeros_stays_one() -> None:
    bias, weight = torch.tensor([0.123456789, -5.0]), torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    found = unpack(pack({"b": bias, "w": weight}))
    assert found.keys() == {"b", "w"}
    assert torch.equal(found["b"], bias) and torch.equal(found["w"][0], weight[0])
    assert not torch.equal(unpack(pack({"w": torch.tensor([[0.3, 1.0]])}))["w"], torch.tensor([[0.3, 1.0]]))


def test_packing_what_was_packed_changes_nothing() -> None:
    once = unpack(pack({name: value for name, value in tiny().state_dict().items()}))
    torch.testing.assert_close(unpack(pack(once)), once, rtol=1e-6, atol=1e-7)


def test_a_packed_folder_opens_through_both_doors_as_the_same_states(packed: Path) -> None:
    language = AutoModelForCausalLM.from_pretrained(packed)
    alone = AutoModel.from_pretrained(packed)
    assert type(language) is MarburyBaseForCausalLM and type(alone) is MarburyBaseModel
    assert type(AutoConfig.from_pretrained(packed)) is MarburyBaseConfig  # without trust_remote_code
    assert torch.equal(states(language), states(alone))
    expected = unpack(load_file(packed / WEIGHTS))
    loaded = language.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())
    assert {value.dtype for value in language.parameters()} == {torch.float32}
    torch.testing.assert_close(states(language), states(tiny()), atol=0.05, rtol=0)
    assert not torch.equal(states(language), states(tiny()))  # it was packed


def test_packed_weights_come_in_the_precision_that_is_asked_for(packed: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(packed, dtype=torch.bfloat16)
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}


def test_output_embeddings_are_the_input_embeddings(packed: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(packed)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert sum("word_embeddings" in name or "decoder.weight" in name for name in load_file(packed / WEIGHTS)) == 2
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight


def test_a_loaded_model_is_saved_and_loaded_like_any_other(packed: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(packed)
    model.save_pretrained(tmp_path / "language")
    AutoModel.from_pretrained(packed).save_pretrained(tmp_path / "alone")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "language")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    for folder in ("language", "alone"):
        assert torch.equal(states(AutoModel.from_pretrained(tmp_path / folder)), states(model))
        assert not any(name.endswith(SCALE) for name in load_file(tmp_path / folder / WEIGHTS))


def test_a_state_depends_on_what_came_before_alone(packed: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(packed)
    other = READ.clone()
    other[0, 4] = 40
    assert torch.equal(states(model)[:, :4], states(model, other)[:, :4])
    assert not torch.allclose(states(model)[:, 4:], states(model, other)[:, 4:])


@torch.no_grad()
def test_a_memory_of_what_was_read_gives_the_same_states(packed: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(packed)
    memory = DynamicCache(config=model.config)
    first, second = (model(part, cache=memory, use_cache=True) for part in (READ[:, :3], READ[:, 3:]))
    together = torch.cat([first.logits, second.logits], 1)
    torch.testing.assert_close(together, model(READ).logits, atol=1e-5, rtol=1e-5)


def test_a_folder_without_weights_or_with_damaged_ones_is_an_error(packed: Path, tmp_path: Path) -> None:
    AutoConfig.from_pretrained(packed).save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"model\.safetensors"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    (tmp_path / WEIGHTS).write_bytes((packed / WEIGHTS).read_bytes()[:-9])
    with pytest.raises(SafetensorError):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_loading_a_packed_folder_reports_nothing(
    packed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    AutoModelForCausalLM.from_pretrained(packed).save_pretrained(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    with caplog.at_level("WARNING", logger="transformers"):
        for folder in (packed, tmp_path):
            AutoModel.from_pretrained(folder)
            AutoModelForCausalLM.from_pretrained(folder)
        assert caplog.records == []
        save_file({**weights, "bert.odd": torch.zeros(1)}, tmp_path / WEIGHTS, metadata={"format": "pt"})
        AutoModel.from_pretrained(tmp_path)
    assert "odd" in caplog.text  # what is odd is still reported


def test_the_base_that_ships_is_what_its_card_says() -> None:
    assert sum(path.stat().st_size for path in MARBURY_BASE.iterdir()) <= 25_000_000
    card = (MARBURY_BASE / "README.md").read_text("utf-8").lower()
    for said in ("apache-2.0", "all-minilm-l6-v2", "scripts/marbury_base.py", "limits"):
        assert said in card, said
    model, tokenizer = load_base("marbury-base")
    assert type(model) is MarburyBaseForCausalLM
    assert len(tokenizer) == model.config.vocab_size
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size, config.max_position_embeddings) == (6, 384, 1024)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert all(module.p == 0 for module in model.modules() if isinstance(module, torch.nn.Dropout))


def test_the_base_that_ships_knows_what_comes_next_and_reads_left_to_right() -> None:
    model = AutoModelForCausalLM.from_pretrained(MARBURY_BASE).eval()
    one, two = (
        torch.tensor([[*SHIPPED.start, *SHIPPED.text(text)]]) for text in ("she lit the lamp", "she lit the sea")
    )
    torch.testing.assert_close(states(model, one)[:, :-1], states(model, two)[:, :-1])
    ids = torch.tensor([[*SHIPPED.start, *SHIPPED.text("in the middle of the night he went back to the house")]])
    shuffled = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        right, wrong = (
            torch.nn.functional.cross_entropy(model(x).logits[0, :-1], x[0, 1:]).item() for x in (ids, shuffled)
        )
    assert right < 6 and right < wrong - 2


def test_letter_case_and_accents_make_no_difference() -> None:
    assert words("THE Wren sings") == words("the wren SINGS") == ["the", "wren", "sings"]
    assert words("Lámp") == words("la\u0301mp") == ["lamp"]


@pytest.mark.parametrize("word", ["lamplighter" * 28, "x" * 300, "ß" * 300, "Ж" * 300, "ア" * 300])
def test_a_word_of_three_hundred_letters_is_read_in_parts(word: str) -> None:
    assert len(word) >= 300
    assert "[UNK]" not in words(word) and len(words(word)) >= 30
    assert "[UNK]" not in SHIPPED.tokenizer.tokenize(word)  # nor by whoever does not cut it before


@pytest.mark.parametrize("odd", ["\U0001f319", "\ua66e", "\U0010ffff", "\ufffc", "睡", "雾"])
def test_an_unknown_character_costs_itself_and_never_the_word(odd: str) -> None:
    assert words(odd) == ["[UNK]"]
    assert words(f"lamp{odd}light") == ["lamp", "[UNK]", "light"]
    assert words(f"{odd}lamp{odd} wren{odd}") == ["[UNK]", "lamp", "[UNK]", "wren", "[UNK]"]
    assert SHIPPED.tokenizer.tokenize(f"lamp{odd}light") == ["lamp", "[UNK]", "light"]


@pytest.mark.parametrize("hidden", ["\ue000", "\u200b", "\u200d", "\x07", "\u202e"])
def test_what_cannot_be_seen_is_left_out_and_the_word_stays(hidden: str) -> None:
    assert words(f"la{hidden}mp") == ["lamp"]


def test_ideographs_kana_and_thai_are_read_letter_by_letter_where_they_are_known() -> None:
    assert words("日本の水") == ["日", "本", "の", "水"]
    assert words("水睡水") == ["水", "[UNK]", "水"]
    thai = words("โคมไฟสีเหลือง")
    assert "[UNK]" not in thai and len(thai) >= 10


def test_the_base_that_ships_has_tokens_for_turns_and_for_what_nobody_can_read() -> None:
    vocabulary = SHIPPED.tokenizer.get_vocab()
    assert [SHIPPED.markers[role][0] for role in ("system", "user", "assistant", "tool")] == [
        vocabulary[f"[unused{number}]"] for number in range(1, 5)
    ]
    assert words("the xqzkvbtw lamp").count("[unused5]") == 1
    assert not any(word.startswith("[unused") for word in words("[unused1] [unused2][unused5] [UNUSED3]"))
