from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_classifiers import BOTH, CATEGORIES, encoder

from marbury.classifier.batches import (
    HEAD,
    Collator,
    End,
    Row,
    Rows,
    Shuffle,
    Span,
    encode,
    encode_all,
    shorten,
    turn_labels,
)
from marbury.errors import DataError
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
    ids = request + ENCODER.text("amber salt")
    at = len(request)
    assert row == Row(ids, (End(at - 1, True),), (Span(at, len(ids), True),), 0)


def test_a_request_alone_has_no_reply_label() -> None:
    row = encode(example("the lamp?", category="everyday"), ENCODER, CATEGORIES, 64, BOTH)
    assert (row.ends, row.replies, row.category) == ((End(len(row.ids) - 1, False),), (), None)


def test_the_input_side_sees_no_reply() -> None:
    row = encode(example("the lamp?", "amber salt", reply_harmful=True), ENCODER, CATEGORIES, 64, ("input",))
    ids, ends = ENCODER.request([Message("user", "the lamp?")])
    assert row == Row(ids, (End(ends[0], False),), (), 0)


@given(request=st.integers(0, 90), reply=st.integers(0, 90), limit=st.sampled_from([32, 40, 64]))
def test_a_long_exchange_fits_and_keeps_the_mark_between(request: int, reply: int, limit: int) -> None:
    row = encode(example("lamp " * request, "salt " * reply, reply_harmful=True), ENCODER, CATEGORIES, limit, BOTH)
    lamp, salt = ENCODER.text("lamp")[0], ENCODER.text("salt")[0]
    asked = request + 3  # the start, the mark of the user, the mark of the reply
    assert len(row.ids) == min(limit, asked + reply)
    (end,) = row.ends
    assert row.ids[end.at] == ENCODER.markers["assistant"][0]
    assert row.ids[:2] == [*ENCODER.start, *ENCODER.markers["user"]]
    kept = min(asked, max(limit - reply, limit // 2))
    assert row.ids.count(salt) == len(row.ids) - end.at - 1 == min(reply, limit - kept)
    assert row.ids.count(lamp) == end.at - 2
    assert row.replies == ((Span(end.at + 1, len(row.ids), True),) if reply else ())


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
    Row([1, 2, 3, 4, 5], (End(0, False), End(2, True)), (Span(3, 5, True),), 1, input_weight=3.0, output_weight=0.5),
    Row([6, 7], (End(1, True),), (), 0),
    Row([8, 9, 10, 11, 12], (End(0, False),), (Span(1, 2, False), Span(2, 5, False)), 1, output_weight=4.0),
    Row([11, 12, 13], (), (Span(2, 3, True),), None),
]


def batch() -> dict[str, Any]:
    data = Rows(ROWS)
    return Collator(0, 2)([data[i] for i in range(len(data))])


def test_sequences_are_padded_on_the_right() -> None:
    made = batch()
    assert made["ids"].tolist() == [[1, 2, 3, 4, 5], [6, 7, 0, 0, 0], [8, 9, 10, 11, 12], [11, 12, 13, 0, 0]]
    assert made["mask"].long().tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]


def test_the_output_side_learns_on_the_tokens_of_replies() -> None:
    made = batch()
    places = [at[mask].tolist() for at, mask in zip(made["reply_at"], made["reply_mask"], strict=True)]
    assert (made["reply_row"].tolist(), places) == ([0, 2, 2, 3], [[3, 4], [1], [2, 3, 4], [2]])


def test_the_input_side_learns_at_the_ends_of_turns() -> None:
    made = batch()
    assert (made["end_row"].tolist(), made["end_at"].tolist()) == ([0, 0, 1, 2], [0, 2, 1, 0])


def test_labels_are_harm_and_the_category_of_what_is_harmful() -> None:
    made = batch()
    assert made["end_labels"].tolist() == [[0, 0, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert made["reply_labels"].tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_the_weight_of_a_row_is_divided_among_what_it_teaches() -> None:
    made = batch()
    assert made["end_weights"].tolist() == [1.5, 1.5, 1.0, 1.0]
    assert made["reply_weights"].tolist() == [0.5, 2.0, 2.0, 1.0]


def test_a_batch_may_teach_nothing() -> None:
    made = Collator(0, 2)([{"row": Row([1, 2], (), ())}])
    assert made["end_labels"].shape == made["reply_labels"].shape == (0, 3)
    assert made["reply_mask"].shape == made["reply_at"].shape == (0, 1)


def test_padding_has_the_number_it_is_given() -> None:
    made = Collator(99, 2)([{"row": ROWS[0]}, {"row": ROWS[1]}])
    assert made["ids"][1].tolist() == [6, 7, 99, 99, 99]
    assert made["ids"].dtype is torch.long and made["mask"].dtype is torch.bool


def many_rows() -> list[Row]:
    lengths = [(7 * number) % 50 + 1 for number in range(200)]
    return [Row([1] * length, (), ()) for length in lengths]


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
    assert row.replies == ()
    assert not Collator(0, 2)([{"row": row}])["reply_mask"].any()


# Labels of turns

TALK = (
    Message("system", "the keep"),
    Message("user", "the lamp?"),
    Message("assistant", "and the wren"),
    Message("user", "amber salt?"),
    Message("assistant", "sing"),
)


def talk(
    harmful: bool, reply_harmful: bool | None = False, *, turns: tuple[bool | None, ...] = (), **more: Any
) -> Example:
    messages = TALK if reply_harmful is not None else TALK[:-1]
    return Example(
        id="t",
        category="preparation",
        messages=messages,
        request_harmful=harmful,
        reply_harmful=reply_harmful,
        pair="p",
        turns=turns,
        **more,
    )


def taught(example: Example, limit: int = 96) -> dict[str, bool]:
    """What the input side learns at the end of each message."""
    row = encode(example, ENCODER, CATEGORIES, limit, BOTH)
    names = dict(zip(ENCODER.request(example.request)[1], ("system", "first", "answer", "last"), strict=True))
    return {names[end.at]: end.harmful for end in row.ends}


def test_every_turn_of_a_harmless_request_is_harmless() -> None:
    assert taught(talk(False)) == {"system": False, "first": False, "answer": False, "last": False}


def test_of_a_harmful_request_only_the_last_turn_is_certain() -> None:
    assert taught(talk(True)) == {"last": True}


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ((False, True), {"system": False, "first": False, "answer": False, "last": True}),
        ((True, None), {"first": True, "last": True}),
        ((True, False), {"first": True, "last": False}),
        ((None, True), {"last": True}),
    ],
)
def test_labels_of_turns_are_taken_where_they_are_given(
    turns: tuple[bool | None, ...], expected: dict[str, bool]
) -> None:
    assert taught(talk(True, turns=turns)) == expected


def test_the_scorer_reads_where_the_input_side_learns() -> None:
    row = encode(talk(False), ENCODER, CATEGORIES, 96, BOTH)
    assert [end.at for end in row.ends] == ENCODER.request(TALK[:-1])[1]


def test_labels_for_another_number_of_turns_are_a_mistake_but_in_a_variant() -> None:
    wrong = talk(True, turns=(False,))
    with pytest.raises(DataError, match="row t labels 1 turns, but its request has 2 user turns"):
        encode(wrong, ENCODER, CATEGORIES, 96, BOTH)
    assert turn_labels(talk(True, turns=(False,), chain=("split",))) == (None, True)


def test_a_request_that_ends_with_a_tool_is_judged_at_its_end() -> None:
    messages = (Message("user", "the lamp?"), Message("tool", "amber"))
    for harmful in (True, False):
        example = Example(id="t", category="preparation", messages=messages, request_harmful=harmful, pair="p")
        assert encode(example, ENCODER, CATEGORIES, 96, BOTH).ends[-1].harmful is harmful


def test_earlier_replies_of_a_harmless_conversation_are_harmless() -> None:
    row = encode(talk(False), ENCODER, CATEGORIES, 96, BOTH)
    texts = [row.ids[reply.start : reply.stop] for reply in row.replies]
    assert texts == [ENCODER.text("and the wren"), ENCODER.text("sing")]
    assert not any(reply.harmful for reply in row.replies)


@pytest.mark.parametrize(("harmful", "reply_harmful"), [(True, False), (True, True), (False, True), (False, None)])
def test_earlier_replies_of_other_conversations_teach_nothing(harmful: bool, reply_harmful: bool | None) -> None:
    row = encode(talk(harmful, reply_harmful), ENCODER, CATEGORIES, 96, BOTH)
    texts = [row.ids[reply.start : reply.stop] for reply in row.replies]
    assert texts == ([] if reply_harmful is None else [ENCODER.text("sing")])


@given(words=st.integers(0, 60), limit=st.sampled_from([32, 48, 64]))
def test_in_a_shortened_conversation_labels_stay_with_their_tokens(words: int, limit: int) -> None:
    messages = (Message("user", "the lamp?"), Message("assistant", "wren " * words), *TALK[3:])
    example = Example(
        id="t", category="everyday", messages=messages, request_harmful=False, reply_harmful=False, pair="p"
    )
    row = encode(example, ENCODER, CATEGORIES, limit, BOTH)
    assert len(row.ids) <= limit
    marks = {ENCODER.markers["user"][0], ENCODER.markers["assistant"][0]}
    assert row.ends and all(row.ids[end.at] in marks for end in row.ends)
    wren = ENCODER.text("wren")[0]
    inside = [token for reply in row.replies[:-1] for token in row.ids[reply.start : reply.stop]]
    assert inside == [wren] * row.ids.count(wren)
    assert row.ids[row.replies[-1].start :] == ENCODER.text("sing")


def test_a_row_says_whether_it_is_hard_and_whether_it_was_made_of_another() -> None:
    row = encode(talk(False, chain=("base64",)), ENCODER, CATEGORIES, 96, BOTH, ["preparation"])
    assert row.hard and row.augmented
    row = encode(talk(False), ENCODER, CATEGORIES, 96, BOTH, ["dispersal"])
    assert not row.hard and not row.augmented
