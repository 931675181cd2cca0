from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_classifiers import BOTH, CATEGORIES, encoder

from marbury.classifier.batches import HEAD, Collator, Row, Rows, Shuffle, encode, encode_all, shorten
from marbury.records import Example, Message

ENCODER = encoder("bert")


def example(
    request: str,
    reply: str | None = None,
    *,
    request_harmful: bool = False,
    reply_harmful: bool = False,
    category: str = "preparation",
) -> Example:
    messages = [Message("user", request)] + ([] if reply is None else [Message("assistant", reply)])
    return Example(
        id="e",
        category=category,
        messages=tuple(messages),
        request_harmful=request_harmful,
        reply_harmful=None if reply is None else reply_harmful,
        pair="p",
    )


def test_a_short_sequence_stays() -> None:
    assert shorten([1, 2, 3], 3) == [1, 2, 3]
    assert shorten([], 0) == []


def test_a_long_sequence_keeps_its_head_and_its_end() -> None:
    assert shorten(list(range(10)), 6) == [0, 1, 2, 7, 8, 9]
    ids = list(range(1000))
    assert shorten(ids, 200) == ids[:HEAD] + ids[-(200 - HEAD) :]


@given(st.integers(0, 300), st.integers(0, 300))
def test_shortened_it_has_as_many_tokens_as_fit_from_both_ends(length: int, limit: int) -> None:
    ids = list(range(length))
    short = shorten(ids, limit)
    assert len(short) == min(length, limit)
    head = next((i for i, token in enumerate(short) if token != i), len(short))
    assert short == ids[:head] + ids[length - len(short) + head :]
    assert head == len(short) or head <= HEAD


def test_an_exchange_is_request_and_reply_with_their_labels() -> None:
    row = encode(
        example("the lamp?", "amber salt", request_harmful=True, reply_harmful=True), ENCODER, CATEGORIES, 64, BOTH
    )
    request, _ = ENCODER.request([Message("user", "the lamp?")])
    assert row == Row(request + ENCODER.text("amber salt"), len(request), True, True, 0)


def test_a_request_alone_has_no_reply_label() -> None:
    row = encode(example("the lamp?", category="everyday"), ENCODER, CATEGORIES, 64, BOTH)
    assert (row.reply_at, row.reply_harmful, row.category) == (len(row.ids), None, None)


def test_the_input_side_sees_no_reply() -> None:
    row = encode(example("the lamp?", "amber salt", reply_harmful=True), ENCODER, CATEGORIES, 64, ("input",))
    assert row == Row(ENCODER.request([Message("user", "the lamp?")])[0], len(row.ids), False, None, 0)


@given(request=st.integers(0, 90), reply=st.integers(0, 90), limit=st.sampled_from([32, 40, 64]))
def test_a_long_exchange_fits_and_keeps_the_mark_between(request: int, reply: int, limit: int) -> None:
    row = encode(example("lamp " * request, "salt " * reply, reply_harmful=True), ENCODER, CATEGORIES, limit, BOTH)
    lamp, salt = ENCODER.text("lamp")[0], ENCODER.text("salt")[0]
    asked = request + 3  # the start, the mark of the user, the mark of the reply
    assert len(row.ids) == min(limit, asked + reply)
    assert row.ids[row.reply_at - 1] == ENCODER.markers["assistant"][0]
    assert row.ids[:2] == [*ENCODER.start, *ENCODER.markers["user"]]
    kept = min(asked, max(limit - reply, limit // 2))
    assert row.ids.count(salt) == len(row.ids) - row.reply_at == min(reply, limit - kept)
    assert row.ids.count(lamp) == row.reply_at - 3
    assert (row.reply_harmful is True) is (reply > 0)


def test_of_a_long_reply_the_end_is_kept() -> None:
    reply = " ".join(["wren"] * 80 + ["salt", "amber"])
    row = encode(example("lamp", reply, reply_harmful=True), ENCODER, CATEGORIES, 32, BOTH)
    assert row.ids[-2:] == ENCODER.text("salt amber") and len(row.ids) == 32


def test_the_input_side_alone_reads_each_request_once() -> None:
    rows = [
        example("the lamp?", "salt"),
        example("the lamp?", "amber", reply_harmful=True),
        example("the lamp?", "amber", request_harmful=True),
        example("the wren?", "amber"),
    ]
    assert len(encode_all(rows, ENCODER, CATEGORIES, 64, ("input",))) == 3
    assert len(encode_all(rows, ENCODER, CATEGORIES, 64, ("output",))) == 4
    assert len(encode_all(rows, ENCODER, CATEGORIES, 64, BOTH)) == 4


ROWS = [
    Row([1, 2, 3, 4, 5], 3, True, True, 1),
    Row([6, 7], 2, True, None, 0),
    Row([8, 9, 10], 1, False, False, 1),
    Row([11, 12, 13], 2, False, True, None),
]


def batch() -> dict[str, Any]:
    data = Rows(ROWS)
    return Collator(0, 2)([data[i] for i in range(len(data))])


def test_sequences_are_padded_on_the_right() -> None:
    made = batch()
    assert made["ids"].tolist() == [[1, 2, 3, 4, 5], [6, 7, 0, 0, 0], [8, 9, 10, 0, 0], [11, 12, 13, 0, 0]]
    assert made["mask"].long().tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]


def test_the_output_side_learns_on_the_tokens_of_replies() -> None:
    assert batch()["reply_mask"].long().tolist() == [
        [0, 0, 0, 1, 1],
        [0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 0, 0],
    ]


def test_the_input_side_learns_at_the_mark_before_the_reply() -> None:
    assert batch()["request_at"].tolist() == [2, 1, 0, 1]


def test_labels_are_harm_and_the_category_of_what_is_harmful() -> None:
    made = batch()
    assert made["request"].tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert made["reply"].tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_padding_has_the_number_it_is_given() -> None:
    made = Collator(99, 2)([{"row": ROWS[0]}, {"row": ROWS[1]}])
    assert made["ids"][1].tolist() == [6, 7, 99, 99, 99]
    assert made["ids"].dtype is torch.long and made["mask"].dtype is torch.bool


def many_rows() -> list[Row]:
    lengths = [(7 * number) % 50 + 1 for number in range(200)]
    return [Row([1] * length, 0, False, False, None) for length in lengths]


def order(seed: int, epoch: int) -> list[int]:
    shuffle = Shuffle(many_rows(), 10, seed)
    shuffle.set_epoch(epoch)
    return list(shuffle)


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    torch.manual_seed(1)
    first = order(0, 2)
    torch.manual_seed(2)
    assert order(0, 2) == first
    assert first not in (order(0, 1), order(0, 3), order(1, 2), order(2, 0))
    assert sorted(first) == list(range(len(Shuffle(many_rows(), 10, 0)))) == list(range(200))


def test_rows_of_a_batch_are_of_similar_length() -> None:
    rows, found = many_rows(), order(0, 0)
    batches = [[len(rows[i].ids) for i in found[at : at + 10]] for at in range(0, 200, 10)]
    spread = sorted(max(batch) - min(batch) for batch in batches)
    assert spread[len(spread) // 2] <= 12  # of 50


def test_rows_are_given_with_what_the_trainer_groups_them_by() -> None:
    data = Rows(ROWS)
    assert len(data) == 4
    assert data[1]["input_ids"] == [6, 7] and data[1]["row"] is ROWS[1]


@pytest.mark.parametrize("sides", [BOTH, ("output",)])
def test_an_exchange_of_nothing_but_space_teaches_nothing_about_replies(sides: Any) -> None:
    row = encode(example("the lamp?", " \n ", reply_harmful=False), ENCODER, CATEGORIES, 64, sides)
    assert row.reply_harmful is None
    assert not Collator(0, 2)([{"row": row}])["reply_mask"].any()
