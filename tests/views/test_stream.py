"""Views of texts that grow: found early, decoded as they come, bounded in number and in work."""

import random
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marbury.ciphers import CIPHERS
from marbury.classifier.encoding import PieceCutter, cut
from marbury.views.find import MOST
from marbury.views.stream import IDLE, STEP, ViewStream

TEXT = (
    "Bring the lamp to the old tower before the bells ring at midnight. It is a gift for the keeper of the gate, who "
    "will wait beside the river with a loaf of bread. Nobody else should know about the swan under the bridge."
)
AT_THE_END = {"reversed-letters", "reversed-words", "upside-down"}


def read(text: str) -> tuple[dict[int, str], list[int]]:
    """What each view said, and how long the text was when something was said."""
    stream, found, when, seen = ViewStream(), dict[int, str](), list[int](), 0
    for piece in [*cut(text), ""]:
        seen += len(piece)
        for number, part in stream.push(piece) if piece else stream.finish():
            found[number] = found.get(number, "") + part
            when.append(seen)
    return found, when


@pytest.mark.parametrize("name", [name for name, cipher in CIPHERS.items() if cipher.decode])
def test_every_cipher_that_can_be_undone_is_while_it_grows(name: str) -> None:
    decode = CIPHERS[name].decode
    assert decode is not None
    coded = CIPHERS[name].encode(TEXT)
    found, when = read(coded)
    wanted = decode(coded).casefold()
    assert any(wanted[60:-2] in text.casefold() for text in found.values()), found
    if name not in AT_THE_END:
        assert when[0] < len(coded) / 2


def test_what_was_decoded_comes_at_once() -> None:
    """The first piece of a view holds the window so far; then every push adds what it brought."""
    stream = ViewStream()
    said = [stream.push(piece) for piece in cut(CIPHERS["rot13"].encode(TEXT))]
    first = next(number for number, parts in enumerate(said) if parts)
    assert TEXT.startswith(said[first][0][1])
    assert all(len(parts) == 1 for parts in said[first:])
    assert "".join(text for parts in said for _, text in parts) == TEXT[: -len(" bridge.")] + " bridge."


def test_plain_text_around_a_code_stays_as_it_is() -> None:
    coded = CIPHERS["base64"].encode(TEXT)
    found, _ = read(f"Here is what you asked for. {coded} And that was all of it.")
    assert list(found.values()) == [f"{TEXT} And that was all of it."]


@pytest.mark.parametrize("names", [("rot13", "base64"), ("base64", "hex"), ("leetspeak", "base32")])
def test_codes_within_codes_have_views_of_their_own(names: tuple[str, str]) -> None:
    coded = CIPHERS[names[1]].encode(CIPHERS[names[0]].encode(TEXT))
    found, _ = read(coded)
    assert any(TEXT[60:].casefold() in text.casefold() for text in found.values())


def test_a_reversed_line_is_read_when_it_ends() -> None:
    lines = [CIPHERS["reversed-letters"].encode(part) for part in (TEXT[:100], TEXT[100:])]
    found, when = read("\n".join(lines))
    assert when[0] <= len(lines[0]) + 32
    assert all(part in "".join(found.values()) for part in (TEXT[:100], TEXT[100:]))


def test_a_view_ends_when_its_code_does() -> None:
    stream = ViewStream()
    for piece in cut(CIPHERS["base64"].encode(TEXT)):
        stream.push(piece)
    (number,) = stream.open
    plain = "and the river was low in the summer of that year " * 20
    said = [number for piece in cut(plain) for number, _ in stream.push(piece)]
    assert stream.open == frozenset()
    assert len(said) * 5 < IDLE * 2
    assert number in said


def test_a_better_view_takes_the_place_of_the_worst() -> None:
    """Four codes that have ended do not keep a fifth out."""
    text = " ".join(CIPHERS[name].encode(TEXT) for name in ("rot13", "atbash", "hex", "base64", "binary", "caesar-7"))
    found, _ = read(text)
    assert any(TEXT[80:] in view for view in list(found.values())[-2:])


def test_plain_text_says_nothing() -> None:
    assert read(TEXT * 20) == ({}, [])


@given(data=st.data(), name=st.sampled_from(sorted(CIPHERS)))
@settings(max_examples=60)
def test_it_does_not_matter_how_the_text_arrives(data: st.DataObject, name: str) -> None:
    text = f"Well: {CIPHERS[name].encode(TEXT[:120])}\nSo it is."
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    cutter, stream, found = PieceCutter(), ViewStream(), dict[int, str]()
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        for piece in cutter.push(text[start:end]):
            for number, part in stream.push(piece):
                found[number] = found.get(number, "") + part
    for number, part in [part for piece in cutter.finish() for part in stream.push(piece)] + stream.finish():
        found[number] = found.get(number, "") + part
    assert found == read(text)[0]


@given(text=st.text(st.characters(exclude_categories=()), max_size=500))
@settings(max_examples=60)
def test_any_text_is_read_with_few_views_open(text: str) -> None:
    stream = ViewStream()
    for piece in cut(text):
        said = stream.push(piece)
        assert len(stream.open) <= MOST
        assert sum(len(part) for _, part in said) <= (MOST + 1) * (len(piece) + 1024)
    stream.finish()
    assert stream.open == frozenset()


@pytest.mark.parametrize(
    "alphabet", ["a", "a ", "0 ", ". -", "01", "x\n", "%4", "a\u200b", string.printable, "0123456789abcdef"]
)
def test_the_cost_of_a_character_does_not_grow(alphabet: str) -> None:
    """Later characters cost what earlier ones did: there is no second look at the whole text."""
    text = "".join(random.Random(0).choices(alphabet, k=60_000)) if len(alphabet) > 2 else alphabet * 30_000
    stream, taken = ViewStream(), list[float]()
    for third in (text[:20_000], text[20_000:40_000], text[40_000:60_000]):
        started = time.process_time()
        for piece in cut(third):
            stream.push(piece)
        taken.append(time.process_time() - started)
    assert taken[2] < 4 * taken[0] + 1
    assert sum(taken) < 60  # 50 microseconds a character on an idle machine


def test_a_step_is_longer_than_nothing() -> None:
    """A code is found within a few steps of what its window needs."""
    _, when = read(CIPHERS["base64"].encode(TEXT))
    assert when[0] <= 4 * STEP
