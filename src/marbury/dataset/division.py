"""Who goes where: rows to train, valid and test by pair, without duplicates, leaks and near-duplicates.

Plain values in and out; nothing here reads a file.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from marbury.dataset.near import nearest
from marbury.errors import DataError
from marbury.records import Example, Message, Split
from marbury.split import is_held_out, split_of

SPLITS: tuple[Split, ...] = ("train", "valid", "test")

# White space, characters without width, and the punctuation that ends a word.
_UNHEARD = re.compile("\\s+|[\u200b\u200c\u200d\u2060\ufeff]+|(?<=\\w)[.,;:!?'\"]+")

DUPLICATE = "the same conversation with the same labels came before in this split"
LEAK = "its request is also in a later split (valid or test), or it was made from such a row"
NEARBY = "its request is nearly one of a later split, or it was made from such a row"
REASONS = (DUPLICATE, LEAK, NEARBY)
_LATER: tuple[tuple[Split, tuple[Split, ...]], ...] = (("valid", ("test",)), ("train", ("valid", "test")))
_NO_SIDES: Mapping[str, Split] = {}


class Repeat(NamedTuple):
    """A row that was dropped, why, and the row that it repeats."""

    row: Example
    reason: str
    twin: str


@dataclass(frozen=True)
class Dataset:
    """The rows of each split, and what was dropped in the order in which it was found."""

    splits: dict[Split, list[Example]]
    dropped: list[Repeat]


def exactly(row: Example) -> tuple[object, ...]:
    """What makes two rows duplicates: turns and labels, runs of white space aside."""
    turns = tuple((message.role, " ".join(message.content.split())) for message in row.messages)
    return (turns, row.request_harmful, row.reply_harmful)


def roughly(messages: Sequence[Message]) -> str:
    """A request without case, spacing, marks after words and Unicode dress: equal for what reads as the same.

    Signs that stand alone remain, because some codes are made of nothing else.
    """
    text = " ".join(message.content for message in messages)
    return _UNHEARD.sub("", unicodedata.normalize("NFKC", text).casefold())


def divide(rows: Iterable[Example], seed: int, sides: Mapping[str, Split] = _NO_SIDES) -> Dataset:
    """The rows by split, without duplicates and without requests that a later split also has, or nearly has.

    `sides` names the split of rows, by id, that are not divided by the seed.

    Raises:
        DataError: a held-out transformation is in a row for training, or a split is empty.
    """
    splits: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    dropped: list[Repeat] = []
    seen: dict[tuple[object, ...], str] = {}
    for row in rows:
        split = sides.get(row.id) or split_of(row.pair, seed)
        key = (split, *exactly(row))
        if key in seen:
            dropped.append(Repeat(row, DUPLICATE, seen[key]))
        else:
            seen[key] = row.id
            splits[split].append(row)
    for twins, reason in ((_same, LEAK), (_near, NEARBY)):
        for split, later in _LATER:
            others = [row for name in later for row in splits[name]]
            splits[split], gone = _without(splits[split], others, twins, reason)
            dropped += gone
    _check(splits)
    return Dataset(splits, dropped)


Twins = Callable[[Sequence[Example], Sequence[Example]], dict[str, str]]


def _without(
    rows: Sequence[Example], later: Sequence[Example], twins: Twins, reason: str
) -> tuple[list[Example], list[Repeat]]:
    """The rows that have no twin in a later split and were made from no such row, and the others."""
    found = twins(rows, later)
    kept: list[Example] = []
    gone: list[Repeat] = []
    for row in rows:
        twin = found.get(row.id) or found.get(row.origin)
        if twin is None:
            kept.append(row)
        else:
            gone.append(Repeat(row, reason, twin))
    return kept, gone


def _same(rows: Sequence[Example], later: Sequence[Example]) -> dict[str, str]:
    """Rows whose request reads as one of a later split, with the row there."""
    requests: dict[str, str] = {}
    for row in later:
        requests.setdefault(roughly(row.request), row.id)
    return {row.id: twin for row in rows if (twin := requests.get(roughly(row.request)))}


def _near(rows: Sequence[Example], later: Sequence[Example]) -> dict[str, str]:
    """Rows whose request nearly stands in a later split, with the row there.

    Only what users say is compared: conversations under one long system text would all be near each other. So would
    rows that augmentation made, for two attacks with one template are near whatever they ask for.
    """
    written, others = ([row for row in those if not row.chain] for those in (rows, later))
    places = nearest(list(map(_said, written)), list(map(_said, others)))
    return {row.id: others[at].id for row, at in zip(written, places, strict=True) if at is not None}


def _said(row: Example) -> str:
    return "\n".join(message.content for message in row.request if message.role == "user")


def _check(splits: Mapping[Split, Sequence[Example]]) -> None:
    for split in SPLITS:
        if not splits[split]:
            raise DataError(f"no rows for {split}: too few pairs of examples; generate more with `marbury synth`")
    for split in SPLITS[:2]:
        for row in splits[split]:
            for step in filter(is_held_out, row.chain):
                raise DataError(
                    f"row {row.id} for {split} uses the held-out {step}: set the same seed for augment and dataset "
                    "in marbury.toml and run `marbury augment` again"
                )
