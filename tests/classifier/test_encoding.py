import copy
import json
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_families import BASES, SENTENCES, tokenizer
from tiny_tokenizers import FAMILIES, wordpiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from marbury.classifier.base import MARBURY_BASE
from marbury.classifier.encoding import (
    MAX_PIECE,
    MAX_SPACE,
    TURNS,
    Encoder,
    PieceCutter,
    cut,
    reserve_turns,
    special_tokens,
)
from marbury.records import Message

ENCODERS = {name: Encoder(make()) for name, make in FAMILIES.items()}
families = pytest.mark.parametrize("family", FAMILIES)


def flatten(groups: Iterable[Iterable[int]]) -> list[int]:
    return [token for group in groups for token in group]


def marked(tokenizer: Any) -> Encoder:
    """The encoder of a copy that has tokens for the turns."""
    tokenizer = copy.deepcopy(tokenizer)
    reserve_turns(tokenizer)
    return Encoder(tokenizer)


# Those of whole bases, of marbury-base itself, and one without a fast part.
ALL = {
    **ENCODERS,
    **{base: marked(tokenizer(base)) for base in BASES if base != "gemma3"},
    "marbury-base": Encoder(AutoTokenizer.from_pretrained(MARBURY_BASE)),
    "byt5": marked(ByT5Tokenizer()),
}
everyone = pytest.mark.parametrize("family", ALL)

AWKWARD = [
    *"शั้ि가ᄀ\u0323\ufe0f\u202e\u2066\ufeff\ue000\U0010ffffعبשׁلا",
    *"aé\u0301\u200d\u200b \n\t\r\xa0\u3000\x1c\x85漢字かナ々。，\U00020000\U0001f319\U0001f1e9\ud800\udfff\x00٣",
    "word",
    "x" * (MAX_PIECE - 1),
    "y" * MAX_PIECE,
    "z" * (2 * MAX_PIECE + 3),
    " " * (MAX_SPACE - 1),
    " " * MAX_SPACE,
    "\n \t" * 20,
    "[SEP]",
    "</s>",
    "[unused2]",
    "<|im_start|>user\n",
    "<start_of_turn>",
    "<|user|>",
    "<0x0A>",
    "👩\u200d👩\u200d👧",
    "e" + "\u0301" * 40,
    "בראשית",
]
texts = st.lists(st.sampled_from(AWKWARD) | st.text(st.characters(), max_size=6), max_size=20).map("".join)


@st.composite
def chunked(draw: st.DrawFn) -> list[str]:
    """A text in chunks; some are empty."""
    text = draw(texts)
    edges = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in pairwise([0, *edges, len(text)])]


@given(texts)
def test_pieces_joined_are_the_text(text: str) -> None:
    pieces = cut(text)
    assert "".join(pieces) == text
    assert all(pieces)
    assert all(len(piece) < MAX_PIECE + MAX_SPACE for piece in pieces)


@given(chunked())
def test_any_chunking_is_cut_like_the_whole(chunks: list[str]) -> None:
    cutter = PieceCutter()
    pieces = [piece for chunk in chunks for piece in cutter.push(chunk)] + cutter.finish()
    assert pieces == cut("".join(chunks))
    assert cutter.finish() == []


@given(texts)
def test_letter_by_letter_is_cut_like_the_whole(text: str) -> None:
    cutter = PieceCutter()
    assert [piece for letter in text for piece in cutter.push(letter)] + cutter.finish() == cut(text)


@given(chunked())
def test_what_is_held_back_is_bounded(chunks: list[str]) -> None:
    cutter, given_, taken = PieceCutter(), 0, 0
    for chunk in chunks:
        given_ += len(chunk)
        taken += len("".join(cutter.push(chunk)))
        assert given_ - taken < MAX_PIECE + MAX_SPACE


def test_a_full_piece_waits_for_nothing() -> None:
    for text in ("a" * MAX_PIECE, " " + "a" * MAX_PIECE, " " * MAX_SPACE, "霧", "  霧"):
        assert PieceCutter().push(text) == [text]
    for text in ("a" * (MAX_PIECE - 1), " " * (MAX_SPACE - 1), " a", "霧 "):
        assert PieceCutter().push(text) in ([], ["霧"])


def test_an_endless_word_or_space_comes_out_as_it_goes_in() -> None:
    cutter = PieceCutter()
    assert sum(len(cutter.push("w")) for _ in range(10_000)) == 10_000 // MAX_PIECE
    cutter = PieceCutter()
    assert sum(len(cutter.push("\n")) for _ in range(10_000)) == 10_000 // MAX_SPACE


def test_words_keep_the_space_before_them_and_ideographs_stand_alone() -> None:
    assert cut("The wren  sings.\n") == ["The", " wren", "  sings.", "\n"]
    assert cut("睡雾 is かな,ok") == ["睡", "雾", " is", " か", "な", ",ok"]


@everyone
@given(chunks=chunked())
def test_streamed_tokens_are_those_of_the_whole(family: str, chunks: list[str]) -> None:
    encoder, cutter, taken = ALL[family], PieceCutter(), 0
    streamed: list[int] = []
    for number, chunk in enumerate(chunks, 1):
        pieces = cutter.push(chunk)
        streamed += flatten(map(encoder.tokens, pieces))
        taken += len("".join(pieces))
        assert len("".join(chunks[:number])) - taken < MAX_PIECE + MAX_SPACE
    streamed += flatten(map(encoder.tokens, cutter.finish()))
    whole = encoder.text("".join(chunks))
    assert streamed == whole
    encoder._cache.clear()  # what was read before has no part in it
    assert encoder.text("".join(chunks)) == whole


@everyone
def test_ordinary_words_are_tokenised_as_the_tokenizer_does_by_itself(family: str) -> None:
    encoder = ALL[family]
    tokenizer = encoder.tokenizer
    for sentence in (*SENTENCES, "lamps\n\nthe  keeper\n- salt\t(amber)", "yes, the lamp"):
        found = encoder.text(sentence)
        rest = len(found) - len(encoder.text(sentence.split()[0]))  # some put a space in front of the first word
        own = tokenizer.encode(sentence, add_special_tokens=False)
        assert rest > 1 and [t for t in found[-rest:] if t not in encoder.unreadable] == own[-rest:]


def test_no_piece_gets_a_space_that_is_not_in_the_text() -> None:
    for family in ("llama2", "mistral", "metaspace", "gemma2"):
        encoder = ALL[family]
        space = encoder.tokenizer.convert_tokens_to_ids("▁")
        assert space not in encoder.text("睡雾守灯") and len(encoder.text("睡雾")) in (2, 6), family


def test_a_space_in_front_is_switched_off_wherever_it_stands() -> None:
    tokenizer = FAMILIES["byte_level"]()
    nested = pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=True)])
    tokenizer.backend_tokenizer.pre_tokenizer = nested
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Prepend(" ")])
    assert Encoder(tokenizer).text("lamp 霧a") == ENCODERS["byte_level"].text("lamp 霧a")
    assert tokenizer.backend_tokenizer.normalizer[1].prepend == " "  # that of others stays as it was


# Letters that both cutting and BERT part the same way: no kana (a word for BERT), no control characters.
LETTERS = "abcdexyzéßñΩяж0189.,!?'\"()[]-_ \n\t\xa0\u3000睡雾守灯🌙🪔\u0301\u200b"
plain = st.text(st.sampled_from(LETTERS), max_size=60)


@given(plain.filter(lambda text: all(len(word) <= MAX_PIECE for word in re.split(r"[\s\u4e00-\u9fff]", text))))
def test_words_of_common_length_are_tokenised_as_the_tokenizer_does_by_itself(text: str) -> None:
    tokenizer = ENCODERS["wordpiece"].tokenizer
    assert ENCODERS["wordpiece"].text(text) == tokenizer.encode(text, add_special_tokens=False)


def test_byte_level_words_are_tokenised_as_the_tokenizer_does_by_itself() -> None:
    text = "The wren sings, and the lamplighter's tin (amber salts) stays; 10 lamps?"
    assert ENCODERS["byte_level"].text(text) == ENCODERS["byte_level"].tokenizer.encode(text)


@families
def test_lone_surrogates_count_as_a_question_mark(family: str) -> None:
    assert ENCODERS[family].text("a\ud800b") == ENCODERS[family].text("a?b")


@everyone
@given(text=texts)
def test_a_text_never_holds_a_special_token_nor_what_marks_a_turn(family: str, text: str) -> None:
    encoder = ALL[family]
    special = set(special_tokens(encoder.tokenizer).values()) - {encoder.tokenizer.unk_token_id}
    special |= {marker[0] for marker in encoder.markers.values()}
    assert special.isdisjoint(encoder.text(text))


@pytest.mark.parametrize(
    ("family", "typed"), [("wordpiece", "[SEP]"), ("wordpiece", "[CLS]"), ("byte_level", "</s>"), ("metaspace", "</s>")]
)
def test_special_tokens_typed_by_a_user_are_text(family: str, typed: str) -> None:
    tokenizer = FAMILIES[family]()
    number = tokenizer.convert_tokens_to_ids(typed)
    assert number in tokenizer.encode(f"a {typed} b", add_special_tokens=False)  # what it does if nobody minds
    tokens = Encoder(tokenizer).text(f"a {typed} b")
    assert number not in tokens and len(tokens) > 3


@pytest.mark.parametrize(("family", "typed"), [("byte_level", "</s>"), ("llama", "<|eot_id|>"), ("gemma2", "<bos>")])
def test_a_special_token_that_is_typed_does_not_break_the_word_beside_it(family: str, typed: str) -> None:
    assert len(ALL[family].text(" lamp")) == 1
    assert ALL[family].text(f"the lamp{typed}")[: len(ALL[family].text("the lamp"))] == ALL[family].text("the lamp")


def test_a_special_token_of_no_known_use_is_text_too() -> None:
    tokenizer = FAMILIES["byte_level"]()
    tokenizer.backend_tokenizer.add_special_tokens(["<|reserved_7|>"])
    tokens = Encoder(tokenizer).text("<|reserved_7|>")
    assert tokens == ENCODERS["byte_level"].text("<|reserved_7|>") and len(tokens) > 3


def test_the_marks_of_a_turn_cannot_be_typed_where_the_vocabulary_reserves_them() -> None:
    encoder = ENCODERS["wordpiece"]
    marks = {token for marker in encoder.markers.values() for token in marker}
    assert len(marks) == 4 and all(len(marker) == 1 for marker in encoder.markers.values())
    assert marks.isdisjoint(encoder.text("[unused1][unused2] [unused3]\n[unused4]"))


def with_mark() -> Encoder:
    """The word pieces with one more reserved word."""
    model = json.loads(wordpiece().backend_tokenizer.to_str())
    model["model"]["vocab"]["[unused5]"] = len(model["model"]["vocab"])
    backend = Tokenizer.from_str(json.dumps(model))
    return Encoder(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", cls_token="[CLS]"))


MARKING = with_mark()


def test_a_piece_that_nobody_can_read_is_followed_by_a_reserved_token() -> None:
    marked, plain = MARKING, ENCODERS["wordpiece"]
    mark = marked.unreadable[0]
    assert marked.tokens(" xqzkvbtw") == (*plain.tokens(" xqzkvbtw"), mark)
    assert marked.tokens(" lighter") == plain.tokens(" lighter")
    text = "the lamp xqzkvbtw, keep qkzxwpvt"
    assert marked.text(text).count(mark) == 2
    assert [token for token in marked.text(text) if token != mark] == plain.text(text)
    assert mark not in marked.text("the [unused5] lamp")  # nobody can type it


@families
def test_without_a_reserved_word_nothing_is_added(family: str) -> None:
    assert ENCODERS[family].unreadable == ()


@given(chunked())
def test_marks_are_the_same_in_any_chunking(chunks: list[str]) -> None:
    cutter = PieceCutter()
    pieces = [piece for chunk in chunks for piece in cutter.push(chunk)] + cutter.finish()
    assert flatten(map(MARKING.tokens, pieces)) == MARKING.text("".join(chunks))


@pytest.mark.parametrize("setting", ["padding", "truncation"])
def test_padding_and_truncation_stored_with_a_tokenizer_are_switched_off(tmp_path: Path, setting: str) -> None:
    tokenizer = wordpiece()
    if setting == "padding":
        tokenizer.backend_tokenizer.enable_padding(length=64)
    else:
        tokenizer.backend_tokenizer.enable_truncation(max_length=2)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert getattr(loaded.backend_tokenizer, setting) is not None  # it does travel in the file
    text = "the lamplighters and wrens, unheard-of"
    assert Encoder(loaded).text(text) == ENCODERS["wordpiece"].text(text)


def test_a_tokenizer_that_is_used_elsewhere_does_not_bring_them_back() -> None:
    encoder = Encoder(wordpiece())
    encoder.tokenizer(["a lamp", "a"], padding="max_length", truncation=True, max_length=3)
    assert encoder.text("the lamp and the wren") == ENCODERS["wordpiece"].text("the lamp and the wren")


@families
def test_a_request_is_start_then_marked_turns_then_the_mark_of_the_reply(family: str) -> None:
    encoder = ENCODERS[family]
    turns = [Message("system", "be kind"), Message("user", "lamp"), Message("assistant", ""), Message("user", "霧")]
    ids, ends = encoder.request(turns)
    expected = list(encoder.start)
    after = []
    for turn in turns:
        expected += [*encoder.markers[turn.role], *encoder.text(turn.content)]
        after.append(len(expected))
    expected += encoder.markers["assistant"]
    assert ids == expected
    # A turn is over where the mark of the next one is complete.
    following = [*(turn.role for turn in turns[1:]), "assistant"]
    assert ends == [end + len(encoder.markers[role]) - 1 for end, role in zip(after, following, strict=True)]
    assert ends[-1] == len(ids) - 1


def test_starts_and_marks_of_each_family() -> None:
    starts = {name: ENCODERS[name].tokenizer.convert_ids_to_tokens(list(ENCODERS[name].start)) for name in FAMILIES}
    assert starts == {"wordpiece": ["[CLS]"], "byte_level": ["<s>"], "metaspace": []}
    for encoder in ENCODERS.values():
        assert encoder.markers["developer"] == encoder.markers["system"] != encoder.markers["user"]
    byte = ENCODERS["byte_level"]
    assert [byte.tokenizer.decode(list(byte.markers[role])) for role in TURNS] == list(TURNS.values())


def test_a_tokenizer_without_marks_of_turns_is_refused_until_it_has_them() -> None:
    bare = copy.deepcopy(tokenizer("gpt_neox"))
    with pytest.raises(ValueError, match="no tokens that mark turns"):
        Encoder(bare)
    assert reserve_turns(bare) == list(range(len(bare) - 4, len(bare)))
    assert reserve_turns(bare) == []
    assert Encoder(bare).markers["user"] == (bare.convert_tokens_to_ids("<|user|>"),)


def test_what_a_tokenizer_has_of_the_marks_is_kept() -> None:
    some = copy.deepcopy(tokenizer("gpt_neox"))
    some.add_tokens(["<|user|>"])  # an ordinary word, that anybody can type
    word = some.convert_tokens_to_ids("<|user|>")
    assert word in some.encode("<|user|>")
    new = reserve_turns(some)
    assert len(new) == 3 and word not in new
    encoder = Encoder(some)
    assert encoder.markers["user"] == (word,)
    assert word not in encoder.text("a<|user|> <|user|>b")


@pytest.mark.parametrize(
    ("special", "expected"),
    [
        (["<|turn>", "<turn|>"], "<|turn>model\n"),
        (["<start_of_turn>", "<end_of_turn>"], "<start_of_turn>model\n"),
        (["<|header_start|>", "<|header_end|>"], "<|header_start|>assistant<|header_end|>"),
        (["<|start|>", "<|message|>", "<|end|>"], "<|start|>assistant<|message|>"),
        (["<|start_of_role|>", "<|end_of_role|>"], "<|start_of_role|>assistant<|end_of_role|>"),
    ],
)
def test_turns_open_as_in_the_chat_format_of_the_base(special: list[str], expected: str) -> None:
    published = copy.deepcopy(tokenizer("gpt_neox"))
    published.add_tokens(special, special_tokens=True)
    assert reserve_turns(published) == []
    encoder = Encoder(published)
    assert published.decode(list(encoder.markers["assistant"])) == expected
    assert {published.convert_ids_to_tokens(marker[0]) for marker in encoder.markers.values()} == {special[0]}
    assert encoder.markers["assistant"][0] not in encoder.text(f"{expected}lamp {special[0]}")


def test_marks_that_were_added_stay_when_the_format_of_the_base_is_known() -> None:
    both = copy.deepcopy(tokenizer("gpt_neox"))
    reserve_turns(both)
    expected = Encoder(both).markers
    both.add_tokens(["<|im_start|>"], special_tokens=True)
    assert Encoder(both).markers == expected


def test_an_opening_that_is_an_ordinary_word_marks_nothing() -> None:
    loose = copy.deepcopy(tokenizer("gpt_neox"))
    loose.add_tokens(["<|im_start|>", "[unused1]", "[unused2]"])
    assert len(reserve_turns(loose)) == 4
    assert len(Encoder(loose).markers["user"]) == 1


def test_reserved_words_that_a_tokenizer_finds_in_a_text_are_not_found_here() -> None:
    loose = copy.deepcopy(tokenizer("gpt_neox"))
    loose.add_tokens([f"[unused{number}]" for number in range(1, 6)])
    encoder = Encoder(loose)
    words = [loose.convert_tokens_to_ids(f"[unused{number}]") for number in range(1, 6)]
    assert [encoder.markers[role] for role in TURNS] == [(word,) for word in words[:4]]
    assert set(words).issubset(loose.encode("[unused1][unused2][unused3][unused4][unused5]"))
    assert set(words).isdisjoint(encoder.text("[unused1][unused2] [unused3]\n[unused4] a[unused5]"))


def test_a_request_of_no_messages_is_the_mark_of_the_reply() -> None:
    encoder = ENCODERS["wordpiece"]
    assert encoder.request([]) == ([*encoder.start, *encoder.markers["assistant"]], [1])


def test_what_the_tokenizer_sees_nothing_in_has_no_tokens() -> None:
    assert ENCODERS["wordpiece"].tokens("\u200b\u200d") == ()
    assert ENCODERS["wordpiece"].text("  \n ") == []


def test_many_pieces_are_tokenised_alike_after_the_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marbury.classifier.encoding._CACHED_PIECES", 4)
    encoder = Encoder(wordpiece())
    text = "the lamp and the wren and the warden and the tin and the lamp"
    assert encoder.text(text) == encoder.text(text) == ENCODERS["wordpiece"].text(text)
    assert len(encoder._cache) <= 4


def test_a_tokenizer_without_words_is_refused() -> None:
    empty = Tokenizer(models.WordPiece({"[UNK]": 0, "[CLS]": 1}, unk_token="[UNK]"))
    with pytest.raises(ValueError, match="its tokenizer has no words: is tokenizer.json missing"):
        Encoder(PreTrainedTokenizerFast(tokenizer_object=empty, unk_token="[UNK]", cls_token="[CLS]"))


def test_a_tokenizer_without_a_fast_part_works_too() -> None:
    encoder = ALL["byt5"]
    assert not hasattr(encoder.tokenizer, "backend_tokenizer")
    assert encoder.start == ()
    assert encoder.text("a b") == [ord(letter) + 3 for letter in "a b"]
    end = encoder.tokenizer.eos_token_id
    assert end in encoder.tokenizer.encode("a</s>", add_special_tokens=False)
    assert encoder.text("a</s>") == [ord(letter) + 3 for letter in "a</s>"]
    assert encoder.text("<|user|>") == [ord(letter) + 3 for letter in "<|user|>"]
