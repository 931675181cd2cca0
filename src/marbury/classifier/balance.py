"""How much each row weighs: rare kinds of rows count as much as common ones, the most confusable ones more.

For each side the weights over all rows have the mean 1, so that a loss summed over a batch and divided by its rows
means the same however many of them teach that side, and however a batch is divided among processes.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

from marbury.classifier.batches import Row
from marbury.classifier.settings import TrainSettings

HIGHEST = 10.0  # a few rows are not made to stand for thousands


def weigh(rows: Sequence[Row], settings: TrainSettings) -> list[Row]:
    """The rows with their weights for both sides."""
    inputs = _weights(rows, [_harm(row.ends) for row in rows], settings)
    outputs = _weights(rows, [_harm(row.replies) for row in rows], settings)
    return [
        row._replace(input_weight=asks, output_weight=gives)
        for row, asks, gives in zip(rows, inputs, outputs, strict=True)
    ]


def _harm(taught: Sequence[tuple[int, bool]] | Sequence[tuple[int, int, bool]]) -> bool | None:
    """Whether any of it is harmful; None when the row teaches nothing there."""
    return any(one[-1] for one in taught) if taught else None


def _weights(rows: Sequence[Row], labels: Sequence[bool | None], settings: TrainSettings) -> list[float]:
    """A weight for each row, 0 where it has no label; rows of one cell share what the cell weighs."""
    cell_of: dict[str, Callable[[Row, bool], Hashable]] = {
        "none": lambda row, harmful: None,
        "labels": lambda row, harmful: harmful,
        "cells": lambda row, harmful: (harmful, row.augmented),
    }
    cells: dict[Hashable, list[int]] = defaultdict(list)
    for number, (row, harmful) in enumerate(zip(rows, labels, strict=True)):
        if harmful is not None:
            cells[cell_of[settings.balance](row, harmful)].append(number)
    weights, some = [0.0] * len(rows), sum(map(len, cells.values()))
    for members in cells.values():
        share = min(some / (len(cells) * len(members)), HIGHEST) * len(rows) / some
        each = [settings.hard_weight if rows[n].hard and labels[n] is False else 1.0 for n in members]
        for number, weight in zip(members, each, strict=True):
            weights[number] = share * weight * len(members) / sum(each)
    return weights
