"""Agreed codes: whoever has the key can read them back, and they suit the scripts that they say."""

import re
from random import Random

import pytest

from marbury.augment.keyed import HELD_OUT, KNOWN, Code
from marbury.views import views

MAKERS = KNOWN | HELD_OUT
TALE = "The keeper of the northern lighthouse writes every evening how many ships have passed."
RUSSIAN = "Где лежит старый фонарь? Скажи пожалуйста, смотритель."
CHINESE = "守灯人每天晚上都会写下有多少船经过,它们挂着什么旗帜,灯笼是否稳定地燃烧,因为港务长想知道。"


def make(name: str, text: str = TALE, seed: int = 1) -> Code:
    code = MAKERS[name](text, Random(seed))
    assert code is not None
    return code


def signs(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalpha())


@pytest.mark.parametrize("name", MAKERS)
def test_a_code_changes_the_text_and_has_a_key(name: str) -> None:
    code = make(name)
    assert code.encode(TALE) != TALE and TALE not in code.encode(TALE)
    assert len(code.key) > 10


@pytest.mark.parametrize("name", MAKERS)
def test_the_seed_decides(name: str) -> None:
    assert make(name, seed=4).key == make(name, seed=4).key
    assert make(name, seed=4).encode(TALE) == make(name, seed=4).encode(TALE)


@pytest.mark.parametrize("name", ["letters", "emoji", "symbols"])
def test_tables_are_one_to_one(name: str) -> None:
    for seed in range(8):
        code = make(name, seed=seed)
        written = [code.encode(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]
        assert len(set(written)) == 26
        assert all(sign in code.key.lower() for sign in written)


@pytest.mark.parametrize("name", ["letters", "emoji", "symbols", "homophonic"])
def test_tables_are_made_for_other_alphabets_too(name: str) -> None:
    code = make(name, RUSSIAN)
    assert not set(signs(RUSSIAN)) & set(code.encode(RUSSIAN)) or name == "letters"
    assert MAKERS[name](CHINESE, Random(1)) is None


@pytest.mark.parametrize("name", ["vigenere", "affine", "grid", "bacon", "affix", "spoon", "woven"])
def test_codes_of_the_latin_alphabet_do_not_fit_others(name: str) -> None:
    assert MAKERS[name](RUSSIAN, Random(1)) is None


@pytest.mark.parametrize("name", ["nth-word", "first-word", "letters", "emoji"])
def test_what_needs_words_or_few_letters_does_not_fit_chinese(name: str) -> None:
    assert MAKERS[name](CHINESE, Random(1)) is None


def test_vigenere_goes_back_with_its_word() -> None:
    code = make("vigenere")
    found = re.search(r"keyword (\w+)|write (\w+) under|word ([A-Z]+)", code.key)
    assert found is not None
    word = next(part for part in found.groups() if part).lower()
    moved = signs(code.encode(TALE))
    back = [chr((ord(a) - ord(word[i % len(word)])) % 26 + 97) for i, a in enumerate(moved)]
    assert "".join(back) == signs(TALE)


def test_affine_goes_back_with_its_numbers() -> None:
    code = make("affine")
    by, plus = (int(number) for number in re.findall(r"(?:by|add) (\d+)", code.key)[:2])
    moved = signs(code.encode(TALE))
    back = [chr((ord(a) - 97 - plus) * pow(by, -1, 26) % 26 + 97) for a in moved]
    assert "".join(back) == signs(TALE)


def test_every_nth_word_and_every_first_word() -> None:
    for seed in range(6):
        code = make("nth-word", seed=seed)
        step = 2 + [word in code.key for word in ("second", "third", "fourth")].index(True)
        assert code.encode(TALE).split()[step - 1 :: step] == TALE.split()
    assert [line.split()[0] for line in make("first-word").encode(TALE).split("\n")] == TALE.split()


def test_woven_and_rails_hold_the_letters_in_their_places() -> None:
    assert "".join(make("woven").encode(TALE).split())[::2] == "".join(TALE.lower().split())
    code = make("rails")
    rows = code.encode(TALE).split()
    assert f"columns of {len(rows)} letters" in code.key
    assert "".join(row[i] for i in range(len(rows[0])) for row in rows if i < len(row)) == "".join(TALE.split())


def test_homophonic_numbers_are_in_the_key() -> None:
    code = make("homophonic")
    table = {
        int(number): part[0]
        for part in re.split(r"[,;\n]\s*|\s(?=[a-z]\b)", code.key)
        for number in re.findall(r"\d+", part)
    }
    read = "".join(table[int(number)] for number in re.findall(r"\d+", code.encode(TALE)))
    assert read == signs(TALE)


@pytest.mark.parametrize(
    "name", ["letters", "vigenere", "affine", "emoji", "symbols", "grid", "rails", "woven", "spoon"]
)
def test_views_do_not_undo_them(name: str) -> None:
    words = set(TALE.lower().rstrip(".").split())
    for view in views(make(name).encode(TALE)):
        assert len(words & set(view.text.lower().split())) < 0.3 * len(words)
