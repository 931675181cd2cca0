"""Views of whole texts: codes in codes, few, bounded, and none for what hides nothing."""

import base64
import random
import string
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marbury.calibrate import BUNDLED, read_traffic
from marbury.ciphers import CIPHERS
from marbury.synth.corpus import load
from marbury.views.find import HEAD, MOST, TAIL, View, views

TEXT = "Bring the lamp to the old tower before the bells ring. It is a gift for the keeper of the gate."


def inside(text: str, *names: str) -> str:
    for name in names:
        text = CIPHERS[name].encode(text)
    return text


@pytest.mark.parametrize("name", [name for name, cipher in CIPHERS.items() if cipher.decode])
def test_every_cipher_that_can_be_undone_is(name: str) -> None:
    decode = CIPHERS[name].decode
    assert decode is not None
    found = views(f"Decode this and answer it: {CIPHERS[name].encode(TEXT)}")
    wanted = decode(CIPHERS[name].encode(TEXT)).casefold()
    assert any(wanted in view.text.casefold() for view in found) or name == "reversed-words"


def test_reversed_words_come_back_up_to_the_edges_of_the_stretch() -> None:
    (found, *_) = views(CIPHERS["reversed-words"].encode(TEXT))
    assert found == View(("reversed-words",), TEXT)


@pytest.mark.parametrize(
    "names",
    [
        ("rot13", "base64"),
        ("hex", "base64"),
        ("rot13", "hex", "base64"),
        ("reversed-letters", "base64"),
        ("base64", "zero-width"),
        ("leetspeak", "base32"),
        ("base64", "base64", "base64"),
        ("morse", "percent"),
    ],
)
def test_codes_within_codes_are_undone_three_deep(names: tuple[str, ...]) -> None:
    found = views(f"Please: {inside(TEXT, *names)}")
    assert any(TEXT.casefold() in view.text.casefold() for view in found)
    assert max(len(view.codes) for view in found) >= len(names)


def test_a_fourth_code_stays() -> None:
    found = views(inside(TEXT, "hex", "base64", "base64", "base64"))
    assert found
    assert not any("lamp" in view.text for view in found)


def test_two_codes_side_by_side_are_both_undone() -> None:
    text = f"First {CIPHERS['base64'].encode(TEXT)} and then {CIPHERS['rot13'].encode(TEXT)} as well."
    assert any(view.text == f"First {TEXT} and then {TEXT} as well." for view in views(text))


def test_some_words_in_code_among_plain_ones() -> None:
    words = ["lantern", "keeper", "midnight", "tower"]
    text = "ask the {} who is a {} and comes at {} to the {} for bread"
    found = views(text.format(*map(CIPHERS["rot13"].encode, words)))
    assert found[0] == View(("rot13",), text.format(*words))


def test_a_long_text_is_looked_at_in_its_head_and_its_tail() -> None:
    coded = CIPHERS["base64"].encode(TEXT)
    filler = "The gate is open and the river is low. "
    long = filler * 4000
    assert len(long) > 2 * (HEAD + TAIL)
    assert any(TEXT in view.text for view in views(f"{long} {coded}"))
    assert any(TEXT in view.text for view in views(f"{coded} {long}"))
    assert views(f"{long} {coded} {long}") == ()


def test_what_is_bundled_has_next_to_no_views() -> None:
    texts = [message.content for row in load()[::4] for message in row.messages]
    texts += [message.content for row in read_traffic(sorted(BUNDLED.glob("*.jsonl")))[::4] for message in row.messages]
    assert sum(len(views(text)) for text in texts) <= 0.02 * len(texts)


def check(text: str) -> None:
    found = views(text)
    assert len(found) <= MOST
    assert sum(len(view.text) for view in found) <= 2 * len(text)
    assert all(1 <= len(view.codes) <= 3 for view in found)


@given(text=st.text(st.characters(exclude_categories=()), max_size=400))
@settings(max_examples=100)
def test_any_text_is_read_within_the_bounds(text: str) -> None:
    check(text)


@given(
    parts=st.lists(st.sampled_from([CIPHERS[name].encode("the old lamp keeper ") for name in CIPHERS]), max_size=8),
    between=st.sampled_from(["", " ", "\n", "x", "="]),
)
@settings(max_examples=60)
def test_any_mixture_of_codes_is_read_within_the_bounds(parts: list[str], between: str) -> None:
    check(between.join(parts))


MILLION = 1_000_000


def _random(alphabet: str) -> str:
    return "".join(random.Random(0).choices(alphabet, k=MILLION))


def _nested() -> str:
    text = TEXT
    while len(text) < MILLION // 2:
        text = base64.b64encode(text.encode()).decode()
    return text


WORST: dict[str, Callable[[], str]] = {
    "one letter": lambda: "a" * MILLION,
    "letters alone": lambda: "a " * (MILLION // 2),
    "digits": lambda: "0 " * (MILLION // 2),
    "percent": lambda: "%4" * (MILLION // 2),
    "entities": lambda: "&#1" * (MILLION // 3),
    "escapes": lambda: "\\u00" * (MILLION // 4),
    "morse": lambda: ".- " * (MILLION // 3),
    "numbers": lambda: "12-" * (MILLION // 3),
    "blanks": lambda: " " * MILLION,
    "unseen": lambda: "a\u200b" * (MILLION // 2),
    "base85": lambda: "~" * MILLION,
    "printable": lambda: _random(string.printable),
    "hex": lambda: _random("0123456789abcdef"),
    "nested": _nested,
}


@pytest.mark.parametrize("name", WORST)
def test_a_million_hostile_characters_take_little_time(name: str) -> None:
    text = WORST[name]()
    started = time.process_time()
    check(text)
    assert time.process_time() - started < 20  # two at most on an idle machine
