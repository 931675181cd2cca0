"""The door of `dataset`: from examples and their variants to train, valid and test, and a card that says what is in.

Pairs stay together. What is dropped (duplicates, and training rows whose request is also in the test) stands in
the card with the reason.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from marbury.errors import DataError
from marbury.records import Example, Message, Split, read_rows, to_jsonl
from marbury.split import is_held_out, split_of
from marbury.workspace import Counts, Workspace, write_atomic

SPLITS: tuple[Split, ...] = ("train", "valid", "test")

# White space, characters without width, and the punctuation that ends a word.
_UNHEARD = re.compile("\\s+|[\u200b\u200c\u200d\u2060\ufeff]+|(?<=\\w)[.,;:!?'\"]+")

_DUPLICATE = "the same conversation with the same labels came before in this split"
_LEAK = "its request is also in a later split (valid or test)"


@dataclass(frozen=True)
class DatasetSettings:
    """How the rows are divided."""

    seed: int = 0
    """Seed of the split; the same as that of `augment`."""


@dataclass(frozen=True)
class Dataset:
    """The rows of each split, and the ids of what was dropped, by reason."""

    splits: dict[Split, list[Example]]
    dropped: dict[str, list[str]]


def load(path: Path) -> list[Example]:
    """The rows of one split.

    Raises:
        DataError: the file is missing or malformed.
    """
    return list(read_rows(path, Example))


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


def divide(rows: Iterable[Example], seed: int) -> Dataset:
    """The rows by split, without duplicates and without requests that a later split also has.

    Raises:
        DataError: a held-out transformation is in a row for training, or a split is empty.
    """
    splits: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    dropped: dict[str, list[str]] = {_DUPLICATE: [], _LEAK: []}
    seen: set[tuple[object, ...]] = set()
    for row in rows:
        split = split_of(row.pair, seed)
        key = (split, *exactly(row))
        if key in seen:
            dropped[_DUPLICATE].append(row.id)
        else:
            seen.add(key)
            splits[split].append(row)
    later: set[str] = set()
    for split in reversed(SPLITS):
        requests = [(row, roughly(row.request)) for row in splits[split]]
        dropped[_LEAK] += [row.id for row, request in requests if request in later]
        splits[split] = [row for row, request in requests if request not in later]
        later.update(request for _, request in requests)
    _check(splits)
    return Dataset(splits, dropped)


def _check(splits: dict[Split, list[Example]]) -> None:
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


def run(ws: Workspace, settings: DatasetSettings) -> Counts:
    """Write train, valid, test and the card.

    Raises:
        WorkspaceError: examples or variants are not there yet.
        DataError: a row is malformed, a split is empty, or a held-out transformation is in a row for training.
    """
    examples = load(ws.need(ws.examples, "synth"))
    variants = load(ws.need(ws.variants, "augment"))
    data = divide([*examples, *variants], settings.seed)
    for split, path in zip(SPLITS, (ws.train, ws.valid, ws.test), strict=True):
        write_atomic(path, to_jsonl(data.splits[split]))
    write_atomic(ws.card, card(data, settings.seed).encode())
    counts: Counts = {split: len(data.splits[split]) for split in SPLITS}
    return counts | {"duplicates": len(data.dropped[_DUPLICATE]), "leaks": len(data.dropped[_LEAK])}


def _label(row: Example) -> str:
    words = {True: "harmful", False: "harmless", None: "none"}
    return f"request {words[row.request_harmful]}, reply {words[row.reply_harmful]}"


def _steps(row: Example) -> list[str]:
    """The steps of a row; templates by their family."""
    return [step.partition("/")[0] for step in row.chain] or ["(none)"]


def _table(title: str, data: Dataset, values: Callable[[Example], Iterable[str]]) -> list[str]:
    """One table of the card: how many rows of each split have a value."""
    counts: dict[str, Counter[Split]] = defaultdict(Counter)
    for split in SPLITS:
        for row in data.splits[split]:
            for value in values(row):
                counts[value or "(none)"][split] += 1
    lines = [f"| {value} | {' | '.join(str(counts[value][split]) for split in SPLITS)} |" for value in sorted(counts)]
    return [f"| {title} | {' | '.join(SPLITS)} |", "|---|---:|---:|---:|", *lines, ""]


def card(data: Dataset, seed: int) -> str:
    """The card: what is in each split and what was dropped."""
    total = sum(len(rows) for rows in data.splits.values())
    lines = [
        "# Dataset",
        "",
        f"{total} rows in three splits, divided by pair with seed {seed}. Rows with a chain were made from another row "
        "by transformations; the test holds transformations and template families that training never sees.",
        "",
        *_table("rows", data, lambda row: ["variants" if row.chain else "examples"]),
        *_table("label", data, lambda row: [_label(row)]),
        *_table("category", data, lambda row: [row.category]),
        *_table("language", data, lambda row: [row.language]),
        *_table("source", data, lambda row: [row.source]),
        *_table("transformation", data, _steps),
        "## Dropped",
        "",
        *(
            f"- {len(ids)} because {reason}{': ' + ', '.join(ids) if ids else ''}"
            for reason, ids in data.dropped.items()
        ),
        "",
    ]
    return "\n".join(lines)
