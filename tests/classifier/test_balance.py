from collections import defaultdict

import pytest

from marbury.classifier.balance import HIGHEST, weigh
from marbury.classifier.batches import End, Row, Span
from marbury.classifier.settings import TrainSettings


def row(harmful: bool, reply: bool | None, *, augmented: bool = False, hard: bool = False) -> Row:
    replies = () if reply is None else (Span(1, 2, reply),)
    return Row([1, 2], (End(0, harmful),), replies, None, augmented, hard)


ROWS = [
    *[row(True, True)] * 2,
    *[row(True, False, augmented=True)] * 4,
    *[row(False, False)] * 9,
    *[row(False, None, augmented=True)] * 5,
]


def sums(rows: list[Row], side: int, by_origin: bool = False) -> dict[object, float]:
    """The weight of each label on one side, divided by plain and augmented if asked."""
    found: dict[object, float] = defaultdict(float)
    for one in rows:
        taught = (one.ends, one.replies)[side]
        label = taught[-1][-1] if taught else None
        found[(label, one.augmented) if by_origin else label] += (one.input_weight, one.output_weight)[side]
    return dict(found)


def test_labels_weigh_the_same_and_a_row_without_one_nothing() -> None:
    weighed = weigh(ROWS, TrainSettings(balance="labels"))
    assert sums(weighed, 0) == pytest.approx({True: 10, False: 10})
    assert sums(weighed, 1) == pytest.approx({True: 10, False: 10, None: 0})


def test_cells_weigh_the_same() -> None:
    weighed = weigh(ROWS, TrainSettings(balance="cells"))
    assert sums(weighed, 0, by_origin=True) == pytest.approx({(True, False): 5, (True, True): 5} | {
        (False, False): 5, (False, True): 5})  # fmt: skip
    by_cell = sums(weighed, 1, by_origin=True)
    assert by_cell.pop((None, True)) == 0
    assert by_cell == pytest.approx(dict.fromkeys([(True, False), (False, False), (False, True)], 20 / 3))


@pytest.mark.parametrize("balance", ["none", "labels", "cells"])
def test_the_mean_weight_of_each_side_is_one(balance: str) -> None:
    weighed = weigh(ROWS, TrainSettings(balance=balance, hard_weight=5.0))  # type: ignore[arg-type]
    for side in (0, 1):
        assert sum(sums(weighed, side).values()) == pytest.approx(len(ROWS))


def test_without_balance_every_row_that_teaches_weighs_the_same() -> None:
    weighed = weigh(ROWS, TrainSettings(balance="none"))
    assert {one.input_weight for one in weighed} == {1.0}
    assert {one.output_weight for one in weighed if one.replies} == {20 / 15}


def test_hard_rows_weigh_more_within_their_label() -> None:
    rows = [row(True, True, hard=True)] * 4 + [row(False, False, hard=True)] * 2 + [row(False, False)] * 2
    weighed = weigh(rows, TrainSettings(hard_weight=3.0))
    assert [one.input_weight for one in weighed] == pytest.approx([1.0] * 4 + [1.5] * 2 + [0.5] * 2)
    assert [one.output_weight for one in weighed] == [one.input_weight for one in weighed]


def test_one_row_does_not_stand_for_thousands() -> None:
    weighed = weigh([row(True, True)] + [row(False, False)] * 999, TrainSettings())
    assert weighed[0].input_weight == HIGHEST
    assert weighed[1].input_weight == pytest.approx(500 / 999)
