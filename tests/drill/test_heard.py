"""What a client heard, found in answers of every shape."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marbury.drill.heard import heard
from marbury.drill.script import WIRES, event, writes
from marbury.drill.text import CUTS, cut, flag_end, flag_piece, flagged, harmless, letters, tail

WORD = "quillstone"
TEXT = flagged(WORD, 3, 5)


def chunk(text: str, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": None, **more}]}


def stream(*values: Any) -> bytes:
    return b"".join(event(value).data for value in values)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("how", CUTS)
def test_a_text_is_found_however_it_is_cut(how: str, wire: str) -> None:
    pieces = cut(TEXT, how, WORD, seed=3)
    written = writes([event(chunk(piece), n) for n, piece in enumerate(pieces)], wire)
    told = heard(b"".join(write.data for write in written), streamed=True)
    assert told.has(TEXT) and told.through(WORD, counts=True) == (1 + 5, 1 + 5 * 4)
    assert written[-1].ends == len(pieces) and [w.ends for w in written] == sorted(w.ends for w in written)


def test_a_cut_inside_characters_splits_every_one_that_has_several_bytes() -> None:
    parts = [write.data for write in writes([event("naïve 🏮")], "inside characters")]
    assert len(parts) == 3 and b"".join(parts) == event("naïve 🏮").data
    for part in parts[:2]:
        with pytest.raises(UnicodeDecodeError):
            part.decode()


@pytest.mark.parametrize(
    ("body", "streamed"),
    [
        (json.dumps({"choices": [{"logprobs": {"content": [{"token": t} for t in TEXT]}}]}).encode(), False),
        (json.dumps({"output": [{"arguments": json.dumps({"tale": TEXT})}]}).encode(), False),
        (json.dumps({"unheard": {TEXT: 1}, "of": [[[TEXT]]]}).encode(), False),
        (TEXT.encode(), False),
        (f"<p>{TEXT}</p>".encode(), False),
        (TEXT.encode(), True),
    ],
    ids=["log probabilities", "JSON in JSON", "key and nested lists", "plain", "HTML", "no events"],
)
def test_a_text_is_found_wherever_it_stands(body: bytes, streamed: bool) -> None:
    tokens, characters = heard(body, streamed).through(WORD, counts=True)
    assert tokens >= 5 and characters >= 5 * 4


def test_an_error_may_name_the_word_but_not_quote_the_tail() -> None:
    named = heard(json.dumps({"error": {"message": f"keyword {WORD}", "code": "no"}}).encode(), False)
    assert named.through(WORD, counts=True) == (0, 0) and named.code == "no"
    quoted = heard(json.dumps({"error": {"message": f"in: {TEXT}"}}).encode(), False)
    assert quoted.through(WORD, counts=True) == (5, 20)
    half = heard(stream(chunk(harmless(3))) + b'data: {"choices": [{"delta": {"content": "' + tail(2).encode(), True)
    assert half.through(WORD, counts=True) == (2, 8)


def test_choices_and_fields_are_not_mixed() -> None:
    told = heard(stream(chunk("quill"), chunk("stone", index=1), {"choices": [{"delta": {"refusal": "stone"}}]}), True)
    assert told.through(WORD, counts=True) == (0, 0)


@pytest.mark.parametrize(
    ("values", "reasons", "ended", "filtered"),
    [
        ([chunk("", finish_reason="stop"), "[DONE]"], ("stop",), True, False),
        ([chunk("", finish_reason="content_filter")], ("content_filter",), False, True),
        (
            [{"type": "message_delta", "delta": {"stop_reason": "refusal"}}, {"type": "message_stop"}],
            ("refusal",),
            True,
            True,
        ),
        (
            [{"type": "response.incomplete", "response": {"incomplete_details": {"reason": "content_filter"}}}],
            ("content_filter",),
            True,
            True,
        ),
        ([chunk("so")], (), False, False),
    ],
)
def test_how_it_ended(values: list[Any], reasons: tuple[str, ...], ended: bool, filtered: bool) -> None:
    body = b"".join(b"data: [DONE]\n\n" if value == "[DONE]" else event(value).data for value in values)
    told = heard(body, streamed=True)
    assert (told.reasons, told.ended, told.filtered) == (reasons, ended, filtered)


@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from(CUTS), st.integers(0, 99))
def test_a_cut_loses_nothing_and_knows_where_the_word_completes(before: int, after: int, how: str, seed: int) -> None:
    text = flagged(WORD, before, after)
    pieces = cut(text, how, WORD, seed)
    place = flag_piece(pieces, WORD)
    assert "".join(pieces) == text and all(pieces) and place is not None
    assert len("".join(pieces[:place])) < flag_end(text, WORD) <= len("".join(pieces[: place + 1]))
    assert letters(text) == 4 * after and len(set(tail(after).split())) == after
    assert letters(harmless(before)) == 0 and flag_piece(cut(harmless(before), how, WORD, seed), WORD) is None
