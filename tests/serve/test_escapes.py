import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marbury.serve.protocols.escapes import Unescaping, unescaped

PIECES = ["a", " ", "é", "\U0001f319", "\\", '"', "\\n", "\\u0066", "\\ud83c", "\\udf19", "\\u00", "\\x", "u", "{", "0"]


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.lists(st.integers(0, 80), max_size=6))
def test_cuts_change_nothing_and_nothing_is_lost(pieces: list[str], cuts: list[int]) -> None:
    text = "".join(pieces)
    places = sorted({cut for cut in cuts if cut < len(text)})
    parts = [text[i:j] for i, j in zip([0, *places], [*places, len(text)], strict=True)]
    escapes = Unescaping()
    decoded = "".join(escapes.feed(part) for part in parts) + escapes.feed("", last=True)
    assert decoded == unescaped(text)
    came = "".join(escapes.release(1) for _ in decoded)
    assert came == text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.booleans())
def test_json_is_decoded_as_a_parser_does(text: str, ascii_only: bool) -> None:
    assert unescaped(json.dumps(text, ensure_ascii=ascii_only)) == f'"{text}"'


@pytest.mark.parametrize(("text", "read"), [("\\ud800", "\ufffd"), ("\\ud800\\n", "\ufffd\n"), ("a\\", "a\\")])
def test_halves_are_read_as_something(text: str, read: str) -> None:
    assert unescaped(text) == read
    text.encode(), read.encode()  # a lone surrogate would not be
