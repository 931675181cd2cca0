"""Chains: seeded, ordered, within their limits, recorded, and repeatable from the record."""

from pathlib import Path
from random import Random

import msgspec
import pytest

import marbury
from marbury.augment.chains import Deck, compose, fits, replay
from marbury.augment.editing import pool_of
from marbury.augment.transformations import PLACES, WEIGHTS, all_steps
from marbury.errors import DataError
from marbury.records import Example, Message, read_rows

CORPUS = Path(marbury.__file__).parent / "data" / "orvane" / "corpus"
ROWS = [row for name in ("a1", "a3", "a5", "a6") for row in list(read_rows(CORPUS / f"{name}.jsonl", Example))[:60]]
POOL = pool_of(ROWS)
DECK = Deck(all_steps())


def make(row: Example, number: int = 1, seed: int = 0) -> Example | None:
    return compose(row, number, DECK, POOL, seed=seed, max_steps=3, max_characters=4000)


MADE = [(row, new) for row in ROWS if (new := make(row)) is not None]


def test_nearly_every_row_gets_a_variant() -> None:
    assert len(MADE) >= 0.98 * len(ROWS)


def test_variants_say_where_they_come_from() -> None:
    for row, new in MADE:
        assert new.id == f"{row.id}~1" and new.origin == row.id and new.pair == row.pair
        assert 1 <= len(new.chain) <= 3
        assert new.request_harmful == row.request_harmful
        assert new.reply_harmful in (row.reply_harmful, None)


def test_variants_differ_from_their_origin_and_keep_to_the_limits() -> None:
    for row, new in MADE:
        assert new.messages[: len(row.messages)] != row.messages
        assert sum(len(message.content) for message in new.messages) <= 4000
        assert all(message.content.strip() for message in new.messages)


def test_a_recorded_chain_gives_the_same_row() -> None:
    for row, new in MADE:
        assert replay(row, new.chain, 1, DECK.steps, POOL, seed=0) == new


def test_numbers_and_seeds_vary() -> None:
    assert make(ROWS[0]) == make(ROWS[0])
    assert len({make(ROWS[0], number) for number in range(1, 6)}) == 5
    assert make(ROWS[0], seed=1) != make(ROWS[0])


def test_steps_stand_in_order_with_one_for_each_place() -> None:
    for seed in range(300):
        places = [PLACES[name.partition(":")[0]] for name in DECK.draw(Random(seed), 3)]
        assert places == sorted(set(places))


def test_all_kinds_are_drawn() -> None:
    drawn = {name.partition(":")[0] for seed in range(400) for name in DECK.draw(Random(seed), 2)}
    assert drawn == PLACES.keys() - {"attack"}
    assert PLACES.keys() == WEIGHTS.keys()


def test_a_kind_of_one_step_is_drawn_seldom() -> None:
    one = {name: step for name, step in DECK.steps.items() if step.kind != "template"}
    one["template:persona/t-001"] = DECK.steps["template:persona/t-001"]
    assert Deck(one).weights["template"] == 1 and DECK.weights["template"] == WEIGHTS["template"]


def test_what_changes_nothing_is_no_variant() -> None:
    row = msgspec.structs.replace(
        ROWS[0], messages=(Message("user", "no capitals here"), Message("assistant", "Right."))
    )
    assert replay(row, ("noise:lower",), 1, DECK.steps, POOL, seed=0) is None


def test_a_row_that_does_not_end_with_the_user_is_left_alone() -> None:
    row = msgspec.structs.replace(ROWS[0], messages=(Message("assistant", "Hello"), Message("assistant", "Hello?")))
    assert make(row) is None


def test_an_empty_deck_makes_nothing() -> None:
    assert compose(ROWS[0], 1, Deck({}), POOL, seed=0, max_steps=2, max_characters=4000) is None


def test_an_unknown_step_is_named() -> None:
    with pytest.raises(DataError, match="no transformation 'cipher:none'"):
        replay(ROWS[0], ("cipher:none",), 1, DECK.steps, POOL, seed=0)


@pytest.mark.parametrize(("text", "expected"), [("short", True), ("  ", False), ("long " * 30, False)])
def test_fits(text: str, expected: bool) -> None:
    row = msgspec.structs.replace(ROWS[0], messages=(Message("user", text), Message("assistant", "Yes")))
    assert fits(row, 100) is expected
