"""The single codes: what is decoded, what stays, and what the path between plain and coded is."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marbury.ciphers import CIPHERS
from marbury.views.letters import SWITCH, Reading, gain_of, path, read_growing, read_turning, shifts
from marbury.views.spans import SPANS, decoded, read_spans

TEXT = "bring the lamp to the old tower before the bells ring at midnight"
SPAN_NAMES = {code.name: code for code in SPANS}


def best(found: list[Reading]) -> Reading:
    return max(found, key=lambda reading: reading.gain)


def test_the_path_is_the_best_of_all_paths() -> None:
    gains = [3.0, -1.0, 4.0, -6.0, 0.5, 2.5]

    def worth(marks: tuple[bool, ...]) -> float:
        switches = sum(a != b for a, b in itertools.pairwise((False, *marks)))
        return sum(gain for gain, mark in zip(gains, marks, strict=True) if mark) - SWITCH * switches

    choices = list(itertools.product((False, True), repeat=len(gains)))
    value, marks = path(gains)
    assert value == pytest.approx(max(map(worth, choices)))
    assert worth(tuple(marks)) == pytest.approx(value)


@pytest.mark.parametrize("name", ["rot13", "caesar-7", "atbash", "keyboard-shift", "rot47"])
def test_a_shift_is_found_in_the_midst_of_plain_text(name: str) -> None:
    text = f"Please read this for me: {CIPHERS[name].encode(TEXT)} and thank you kindly."
    found = best(read_growing(text))
    assert found.code == name
    assert found.text == f"Please read this for me: {TEXT} and thank you kindly."
    assert text[: found.start] == "Please read this for me: "


@pytest.mark.parametrize("by", range(1, 26))
def test_every_shift_has_its_name(by: int) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    coded = TEXT.translate(str.maketrans(letters, letters[by:] + letters[:by]))
    assert best(read_growing(coded)) == Reading(
        "rot13" if by == 13 else f"caesar-{by}", best(read_growing(coded)).gain, TEXT, 0
    )


@pytest.mark.parametrize(
    "name", ["homoglyphs", "full-width", "mathematical", "fraktur", "circled", "small-caps", "braille", "tags"]
)
def test_letters_that_look_like_others_are_folded(name: str) -> None:
    found = best(read_growing(f"I ask: {CIPHERS[name].encode(TEXT)}"))
    assert (found.code, found.text) == ("look-alike", f"I ask: {TEXT}")


def test_styles_may_be_mixed_letter_by_letter() -> None:
    styles = [CIPHERS[name] for name in ("full-width", "fraktur", "homoglyphs", "circled")]
    mixed = "\u2060".join(styles[i % 4].encode(letter) for i, letter in enumerate(TEXT))
    assert best(read_growing(mixed)).text == TEXT


@pytest.mark.parametrize("name", ["reversed-letters", "reversed-words", "upside-down"])
def test_turned_text_is_turned_back(name: str) -> None:
    text = "Bring the lamp to the old tower. It is a gift for the keeper of the bells, and she is waiting."
    found = best(read_turning(CIPHERS[name].encode(text)))
    assert found.code == name
    assert found.text.lower() == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "Связь в надзоре. По договору города обязались следить за лампами и колоколами.",
        "Η θάλασσα είναι ήρεμη το πρωί και οι βάρκες γυρίζουν στο λιμάνι.",
        "👨‍👩‍👧‍👦 ➡️ 🧊 1️⃣ ☁️ می‌خواهم نمی‌دانم",
        "kWh " * 40,
        "a" * 300,
        "aefb9283-dead-4bca-9a38-00c04fd430c8 " * 3,
        "GATTACAGATTACACCGTAGCTAGCTAAGCTTAGCGATCGATTAGC",
        "| 1 | 2 | 3 |\n|---|---|---|\n| 12 | 15 | 18 |\n| 65 | 70 | 75 |",
        "2024-05-01 12:30:45 ERROR worker[17] timeout after 3000 ms, retry 2/5",
        "def add(first, second):\n    return [first + second for _ in range(10)]",
        "https://example.org/a%20b?x=1&y=%C3%A9 &amp; &lt;b&gt; \\n \\t",
        "encyclopedia Instruments internationalisation McKinsey CURRENT_DATE bookkeeper",
    ],
)
def test_what_is_in_no_code_has_no_reading(text: str) -> None:
    assert [reading.code for reading in read_growing(text) + read_spans(text) + read_turning(text)] == []


BYTES_AND_NUMBERS = (
    "base64 base32 base85 hex binary percent html-entities unicode-escapes decimal letter-numbers morse spaced"
).split()


@pytest.mark.parametrize("name", BYTES_AND_NUMBERS)
def test_a_run_is_decoded_where_it_stands(name: str) -> None:
    found = best(read_spans(f"Decode this: {CIPHERS[name].encode(TEXT)} and answer."))
    assert found.code == name
    assert found.text == f"Decode this: {TEXT} and answer."


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("b-r-i-n-g- -t-h-e- -l-a-m-p- -t-o- -m-e", "punctuated"),
        ("b.r.i.n.g. .t.h.e. .l.a.m.p. .t.o. .m.e", "punctuated"),
        ("62 72 69 6e 67 20 74 68 65 20 6c 61 6d 70 20 74 6f 20 6d 65", "hex"),
        (r"\x62\x72\x69\x6e\x67\x20\x74\x68\x65\x20\x6c\x61\x6d\x70\x20\x74\x6f\x20\x6d\x65", "hex"),
        ("YnJpbmcgdGhlIGxhbXAgdG8gbWU", "base64"),
        (".--|.-. .. -. --. / - .... . / .-.. .- -- .--. / - --- / -- .", ""),
        ("-... .-. .. -. --. / - .... . / .-.. .- -- .--. / - --- / -- .", "morse"),
    ],
)
def test_spellings_of_the_codes(text: str, code: str) -> None:
    if code:
        assert best(read_spans(text)) == Reading(code, best(read_spans(text)).gain, "bring the lamp to me", 0)


def test_base64_goes_on_over_its_line_ends() -> None:
    coded = re.sub(r"(.{60})", r"\1\n", CIPHERS["base64"].encode(TEXT * 3))
    assert best(read_spans(coded)).text.strip() == TEXT * 3


def test_other_scripts_come_out_of_bytes() -> None:
    russian = "колокола звонят на закате"
    for name in ("base64", "hex", "percent", "unicode-escapes", "html-entities"):
        assert best(read_spans(CIPHERS[name].encode(russian))).text == russian, name


def test_an_unfinished_run_gives_its_complete_groups() -> None:
    code = SPAN_NAMES["base64"]
    span, gain = decoded(code, CIPHERS["base64"].encode(TEXT)[:42], False)
    assert (span.text, span.used) == (TEXT[:30], 40)
    assert gain > 0
    assert decoded(code, "????", False)[0].text == ""


@given(text=st.text(st.characters(exclude_categories=()), max_size=300))
@settings(max_examples=150)
def test_nothing_makes_a_reading_fail(text: str) -> None:
    for reading in read_growing(text) + read_spans(text) + read_turning(text):
        assert text[: reading.start] == reading.text[: reading.start]
        assert reading.gain > 0


@given(text=st.text(st.sampled_from("01 .-/%&#;\\ux{}=Aab\n9,"), max_size=300))
@settings(max_examples=150)
def test_nor_do_the_signs_of_the_codes(text: str) -> None:
    for reading in read_growing(text) + read_spans(text) + read_turning(text):
        assert text[: reading.start] == reading.text[: reading.start]


def test_the_gain_of_a_piece_has_the_right_sign() -> None:
    assert gain_of(shifts()["rot13"], " ybhqre") > 0 > gain_of(shifts()["rot13"], " louder")
    assert gain_of(shifts()["rot13"], "  ") == 0
