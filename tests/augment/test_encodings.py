"""Codes on requests and replies: the labels stay, the code can be undone, unfit texts are left alone."""

from pathlib import Path
from random import Random

import pytest

import marbury
from marbury.augment.editing import Pool, Transformation, question
from marbury.augment.encodings import encodings
from marbury.ciphers import CIPHERS
from marbury.records import Example, Message, read_rows

CORPUS = Path(marbury.__file__).parent / "data" / "orvane" / "corpus"
ROWS = list(read_rows(CORPUS / "a1.jsonl", Example))[:20] + list(read_rows(CORPUS / "a4.jsonl", Example))[:20]
STEPS = {step.name: step for step in encodings()}


def apply(name: str, row: Example, seed: int = 0) -> Example | None:
    return STEPS[name].apply(row, Random(seed), Pool())


def plain(text: str) -> Example:
    turns = (Message("user", text), Message("assistant", "The lamp is by the door."))
    return Example(id="e", category="everyday", messages=turns, request_harmful=False, reply_harmful=False, pair="p")


@pytest.mark.parametrize("name", STEPS)
def test_labels_and_the_rest_of_the_row_stay(name: str) -> None:
    for row in ROWS:
        changed = apply(name, row)
        if changed is not None:
            assert (changed.request_harmful, changed.reply_harmful) == (row.request_harmful, row.reply_harmful)
            assert (changed.id, changed.pair, changed.category) == (row.id, row.pair, row.category)
            assert len(changed.messages) == len(row.messages)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_same_seed_same_row(step: Transformation) -> None:
    assert step.apply(ROWS[0], Random(3), Pool()) == step.apply(ROWS[0], Random(3), Pool())


@pytest.mark.parametrize("name", CIPHERS)
def test_the_coded_request_stands_in_the_turn(name: str) -> None:
    for seed in range(5):
        changed = apply(f"cipher:{name}", ROWS[0], seed)
        assert changed is not None
        assert CIPHERS[name].encode(question(ROWS[0])) in question(changed)
        assert changed.reply == ROWS[0].reply


def test_a_reply_comes_in_the_code_that_was_asked_for() -> None:
    changed = apply("reply-cipher:rot13", ROWS[0])
    assert changed is not None and changed.reply is not None and ROWS[0].reply is not None
    assert CIPHERS["rot13"].encode(changed.reply) == ROWS[0].reply
    assert question(ROWS[0]) in question(changed)
    assert "ROT13" in question(changed)


def test_both_sides_in_one_code() -> None:
    changed = apply("cipher-both:hex", ROWS[0])
    assert changed is not None and changed.reply is not None
    assert bytes.fromhex(changed.reply).decode() == ROWS[0].reply
    assert question(ROWS[0]).encode().hex() in question(changed)


def test_part_leaves_short_words_plain() -> None:
    changed = apply("cipher-part:base64", plain("Is the quillstone in the old belfry?"))
    assert changed is not None
    assert "Is the " in question(changed) and " in the old " in question(changed)
    assert "cXVpbGxzdG9uZQ==" in question(changed) or "YmVsZnJ5" in question(changed)


@pytest.mark.parametrize(
    "name", ["cipher:rot13", "cipher:morse", "cipher:fraktur", "cipher-part:atbash", "cipher:tags"]
)
def test_latin_codes_do_not_fit_other_scripts(name: str) -> None:
    assert apply(name, plain("где лежит фонарь? скажи пожалуйста")) is None


@pytest.mark.parametrize("name", ["cipher:base64", "cipher:reversed-letters", "cipher:unicode-escapes"])
def test_other_codes_fit_every_script(name: str) -> None:
    assert apply(name, plain("где лежит фонарь?")) is not None


def test_a_row_without_a_reply_gets_no_coded_reply() -> None:
    row = Example(id="e", category="c", messages=(Message("user", "Where?"),), request_harmful=False, pair="p")
    assert apply("reply-cipher:base64", row) is None
    assert apply("cipher-both:base64", row) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("noise:lower", "is the old lamp on"),
        ("noise:upper", "IS THE OLD LAMP ON?"),
        ("noise:no-spaces", "Istheoldlampon?"),
        ("noise:no-vowels", "Is the old lmp on?"),
    ],
)
def test_noise(name: str, expected: str) -> None:
    changed = apply(name, plain("Is the old lamp on?"))
    assert changed is not None and question(changed) == expected


@pytest.mark.parametrize("name", ["noise:typos", "noise:random-case", "noise:doubled"])
def test_random_noise_stays_close_to_the_text(name: str) -> None:
    text = "Which ferries carry lanterns across the harbour in the winter months?"
    changed = apply(name, plain(text), seed=1)
    assert changed is not None and question(changed) != text
    assert abs(len(question(changed)) - len(text)) < 40
    assert set(question(changed).lower()) <= set(text.lower())
