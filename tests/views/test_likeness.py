"""The tables of likeness: fresh, and they tell language from letters in no order."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from marbury.ciphers import CIPHERS
from marbury.views.likeness import JUNK, ORDER, TRIGRAMS, WORDS, backwards, classes, likeness, plain, starts, total

ENGLISH = "The bell keeper closes the gate at dusk and walks home along the river."


def script() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "likeness.py"
    spec = importlib.util.spec_from_file_location("likeness_script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shipped_tables_are_those_of_the_bundled_texts() -> None:
    module = script()
    rows = module.texts()
    words, order = module.word_order(rows)
    fresh = "run scripts/likeness.py: the bundled texts have changed"
    assert module.trigrams(rows) == TRIGRAMS.read_bytes(), fresh
    assert (words, order) == (WORDS.read_text(encoding="utf-8"), ORDER.read_bytes()), fresh


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH,
        "Der Glöckner schließt am Abend das Tor und geht am Fluss nach Hause.",
        "El campanero cierra la puerta al anochecer y vuelve a casa por el río.",
        "Dzwonnik zamyka bramę o zmierzchu i wraca do domu wzdłuż rzeki.",
    ],
)
def test_language_is_likelier_than_its_ciphers(text: str) -> None:
    assert likeness(text) > JUNK
    for name in ("rot13", "atbash", "caesar-7", "keyboard-shift", "reversed-letters"):
        assert likeness(text) > likeness(CIPHERS[name].encode(text)) + 0.4, name


def test_classes_fold_accents_and_see_what_cannot_be_seen() -> None:
    assert classes("Aéłz 7?").tolist() == [1, 5, 12, 26, 0, 27, 28]
    assert classes("\u200b\u2060\ufeff\u3000\ufe0f").tolist() == [0] * 5
    assert classes("ж語𝗮").tolist() == [29] * 3
    assert classes("").tolist() == []


def test_a_letter_by_itself_says_nothing() -> None:
    assert total("a") == total("x") == pytest.approx(JUNK)


def test_tokens_are_cut_at_white_space_and_after_32_characters() -> None:
    assert starts("  one two") == [0, 6]
    assert starts("x" * 70) == [0, 32, 64]
    assert starts(" \n ") == []


def test_a_word_of_one_other_script_is_as_it_should_be() -> None:
    """Cyrillic words cost less than words that mix Cyrillic and Greek."""
    assert plain("каша", [0])[0] > plain("καшα", [0])[0]


def test_the_order_of_words_tells_forwards_from_backwards() -> None:
    words = "I do not know if it is a gift for the keeper of the gate, and she will be in the tower at dusk.".split(" ")
    assert backwards(words).sum() < -5
    assert backwards(words[::-1]).sum() > 5
