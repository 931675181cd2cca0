import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_tokenizers import FAMILIES, wordpiece
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from marbury.classifier.encoding import MAX_PIECE, MAX_SPACE, Encoder, PieceCutter, cut, flatten
from marbury.records import Message

ENCODERS = {name: Encoder(make()) for name, make in FAMILIES.items()}
families = pytest.mark.parametrize("family", FAMILIES)

AWKWARD = [
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
]
texts = st.lists(st.sampled_from(AWKWARD) | st.text(max_size=6), max_size=20).map("".join)


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


@families
@given(chunks=chunked())
def test_streamed_tokens_are_those_of_the_whole(family: str, chunks: list[str]) -> None:
    encoder, cutter = ENCODERS[family], PieceCutter()
    pieces = [piece for chunk in chunks for piece in cutter.push(chunk)] + cutter.finish()
    assert flatten(encoder.tokens(piece) for piece in pieces) == encoder.text("".join(chunks))


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


@families
@given(text=texts)
def test_a_text_never_holds_a_special_token(family: str, text: str) -> None:
    encoder = ENCODERS[family]
    backend = encoder.tokenizer.backend_tokenizer
    special = {number for number, token in backend.get_added_tokens_decoder().items() if token.special}
    special -= {encoder.tokenizer.unk_token_id}
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
    byte = ENCODERS["byte_level"]
    assert byte.tokenizer.decode(list(byte.markers["user"])) == "\n\n[user]\n"
    assert byte.markers["developer"] == byte.markers["system"] != byte.markers["user"]


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


class SlowTokenizer:
    """A tokenizer without a fast part, as some old models have: letters are numbers."""

    bos_token_id, cls_token_id, unk_token_id = None, 1, 0
    all_special_ids = (0, 1)

    def get_vocab(self) -> dict[str, int]:
        return {"a": 97}

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [ord(letter) for letter in text if not letter.isspace()]


def test_a_tokenizer_without_a_fast_part_works_too() -> None:
    encoder = Encoder(SlowTokenizer())
    assert encoder.start == (1,)
    assert encoder.text("a b") == [97, 98]
    assert encoder.markers["user"] == tuple(map(ord, "[user]"))
