"""Codes: what is written can be read again, and nothing makes them fail."""

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marbury.ciphers import CIPHERS

# What comes back letter by letter: any text, printable ASCII, or lower-case words (where case and spacing are lost).
EXACT = (
    "base64 base32 base85 hex percent binary decimal html-entities unicode-escapes rot13 rot47 atbash caesar-7 "
    "keyboard-shift reversed-letters reversed-words spaced"
).split()
PRINTABLE = "zero-width tags homoglyphs full-width mathematical fraktur circled".split()
WORDS = "leetspeak small-caps upside-down morse letter-numbers braille".split()

any_text = st.text(st.characters(exclude_categories=()))  # lone surrogates too
printable = st.text(st.sampled_from(string.ascii_letters + string.digits + " .,?!"))
words = st.lists(st.text(st.sampled_from(string.ascii_lowercase), min_size=1)).map(" ".join)


def test_every_cipher_with_an_inverse_is_tested() -> None:
    assert sorted(EXACT + PRINTABLE + WORDS) == sorted(name for name, cipher in CIPHERS.items() if cipher.decode)


@pytest.mark.parametrize("name", CIPHERS)
@given(text=any_text)
@settings(max_examples=40, deadline=None)
def test_encode_takes_any_text(name: str, text: str) -> None:
    assert isinstance(CIPHERS[name].encode(text), str)


@pytest.mark.parametrize("name", CIPHERS)
@given(text=any_text)
@settings(max_examples=40, deadline=None)
def test_decode_gives_text_or_a_value_error(name: str, text: str) -> None:
    decode = CIPHERS[name].decode
    if decode is None:
        return
    try:
        assert isinstance(decode(text), str)
    except ValueError:
        pass


def round_trip(name: str, text: str) -> str:
    cipher = CIPHERS[name]
    assert cipher.decode is not None
    return cipher.decode(cipher.encode(text))


@pytest.mark.parametrize("name", EXACT)
@given(text=any_text)
@settings(max_examples=40, deadline=None)
def test_exact_codes_come_back_whatever_the_text(name: str, text: str) -> None:
    assert round_trip(name, text) == text


@pytest.mark.parametrize("name", PRINTABLE)
@given(text=printable)
@settings(max_examples=40, deadline=None)
def test_letter_codes_come_back_for_printable_text(name: str, text: str) -> None:
    assert round_trip(name, text) == text


@pytest.mark.parametrize("name", WORDS)
@given(text=words)
@settings(max_examples=40, deadline=None)
def test_folding_codes_come_back_as_lower_case_words(name: str, text: str) -> None:
    assert round_trip(name, text.upper()).lower() == text  # some letters have no code and stay upper case


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("base64", "V2ljayAx"),
        ("hex", "5769636b2031"),
        ("percent", "%57%69%63%6B%20%31"),
        ("rot13", "Jvpx 1"),
        ("caesar-7", "Dpjr 1"),
        ("atbash", "Drxp 1"),
        ("morse", ".-- .. -.-. -.- / .----"),
        ("letter-numbers", "23-9-3-11 1"),
        ("leetspeak", "W1ck 1"),
        ("braille", "⠺⠊⠉⠅ 1"),
        ("pig-latin", "ickWay 1"),
        ("reversed-words", "1 Wick"),
    ],
)
def test_known_codes(name: str, code: str) -> None:
    assert CIPHERS[name].encode("Wick 1") == code


@pytest.mark.parametrize(
    ("name", "text"), [("base64", "a lamp?"), ("hex", "xyz"), ("percent", "%5"), ("binary", "102")]
)
def test_what_is_not_in_the_code_is_refused(name: str, text: str) -> None:
    decode = CIPHERS[name].decode
    assert decode is not None
    with pytest.raises(ValueError):
        decode(text)


def test_homoglyphs_are_letters_of_other_scripts() -> None:
    changed = CIPHERS["homoglyphs"].encode(string.ascii_letters)
    assert len(set(changed)) == len(string.ascii_letters)  # no two letters share a twin
    assert sum(not letter.isascii() for letter in changed) >= 40
    assert not re.search(r"\W", changed)


def test_names_and_families() -> None:
    assert all(name == cipher.name for name, cipher in CIPHERS.items())
    assert {cipher.family for cipher in CIPHERS.values()} == {
        "bytes",
        "invisible",
        "look-alike",
        "numbers",
        "order",
        "shift",
        "signs",
        "spacing",
    }
