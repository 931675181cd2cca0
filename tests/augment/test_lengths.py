"""Long rows: the words stay, the labels stay, and what training sees of them holds what the labels speak of."""

import re
from pathlib import Path
from random import Random

import msgspec
import pytest

import marbury
from marbury.augment import lengths as lengths_module
from marbury.augment.editing import Pool, pool_of, question
from marbury.augment.lengths import lengths, tokens
from marbury.classifier.settings import TrainSettings
from marbury.records import Example, Message, read_rows
from marbury.split import is_held_out

CORPUS = Path(marbury.__file__).parent / "data" / "orvane" / "corpus"
ROWS = [row for name in ("a1", "a6") for row in read_rows(CORPUS / f"{name}.jsonl", Example)][::3]
POOL = pool_of(read_rows(CORPUS / "a5.jsonl", Example))
STEPS = {step.name: step for step in lengths()}
KNOWN = [name for name in STEPS if not is_held_out(name)]
HELD_OUT = [name for name in STEPS if is_held_out(name)]


def made(name: str, rows: list[Example] = ROWS) -> list[tuple[Example, Example]]:
    pairs = [(row, STEPS[name].apply(row, Random(row.id), POOL)) for row in rows]
    return [(row, new) for row, new in pairs if new is not None]


def words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize("name", STEPS)
def test_labels_stay_and_nothing_of_the_row_is_lost(name: str) -> None:
    found = made(name)
    assert len(found) > 0.25 * len(ROWS)
    for row, new in found:
        assert (new.request_harmful, new.reply_harmful, new.pair) == (row.request_harmful, row.reply_harmful, row.pair)
        assert question(row) in question(new)
        assert row.reply is not None and new.reply is not None
        left = iter(words(new.reply))
        assert all(word in left for word in words(row.reply))  # in their order


@pytest.mark.parametrize("name", STEPS)
def test_harmful_and_harmless_rows_become_long_alike(name: str) -> None:
    found = made(name)
    shares = [sum(row.request_harmful is harmful for row, _ in found) for harmful in (True, False)]
    totals = [sum(row.request_harmful is harmful for row in ROWS) for harmful in (True, False)]
    rates = [share / total for share, total in zip(shares, totals, strict=True)]
    assert min(rates) > 0.25 and abs(rates[0] - rates[1]) < 0.35


def test_the_window_is_that_of_training() -> None:
    assert lengths_module.WINDOW == TrainSettings().max_tokens


@pytest.mark.parametrize("name", ["long:reply-inside", "long:reply-woven"])
def test_training_keeps_the_whole_reply_within_its_window(name: str) -> None:
    checked = 0
    for row, new in made(name):
        assert row.reply is not None and new.reply is not None
        first = re.split(r"[.!?\n]", row.reply)[0]
        if new.reply.count(first) == 1:  # "1" and the like also stand in the innocent text
            request = sum(tokens(message.content) + 1 for message in new.request)
            assert tokens(new.reply[new.reply.index(first) :]) <= 384 - min(192, request) + 4
            checked += 1
    assert checked > 20


def test_a_reply_that_fills_the_window_gets_nothing_after_it() -> None:
    row = next(row for row in ROWS if row.reply is not None)
    long = msgspec.structs.replace(row, messages=(*row.request, Message("assistant", "The lamp is lit. " * 90)))
    assert STEPS["long:reply-inside"].apply(long, Random(1), POOL) is None
    assert STEPS["long:reply-woven"].apply(long, Random(1), POOL) is None
    assert STEPS["long:reply-deep"].apply(long, Random(1), POOL) is not None


@pytest.mark.parametrize("name", ["long:reply-far-end", "long:reply-deep", "long:request-deep", "long:history-6"])
def test_rows_of_the_test_are_up_to_a_thousand_words(name: str) -> None:
    counts = [sum(len(words(message.content)) for message in new.messages) for _, new in made(name)]
    assert max(counts) > 800 and min(counts) > 300


def test_a_history_is_innocent_turn_by_turn() -> None:
    for row, new in made("long:history-2"):
        assert new.turns[:2] == (False, False)
        assert len(new.turns) == sum(message.role == "user" for message in new.request)
        assert new.turns[-1] in (row.request_harmful, None)


@pytest.mark.parametrize("name", STEPS)
def test_without_innocent_material_no_step_fits(name: str) -> None:
    assert STEPS[name].apply(ROWS[0], Random(1), Pool()) is None


def test_held_out_and_known_lengths() -> None:
    assert set(HELD_OUT) == {
        "long:history-6",
        "long:reply-deep",
        "long:reply-far-end",
        "long:reply-scattered",
        "long:request-deep",
    }
