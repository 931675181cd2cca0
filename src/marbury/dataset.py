"""The door of `dataset`: from examples, variants and imported rows to train, valid and test, and a card of them.

Pairs stay together. What is dropped (duplicates, and training rows whose request is also in the test, word for word or
nearly) stands in the card with the reason; rows of a file that cannot be used stand aside, each with its own.
"""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from marbury import constitution
from marbury.errors import DataError
from marbury.imports import Import, Imported, read_import
from marbury.near import NEAR, near_any
from marbury.records import Example, Message, Split, read_rows, to_jsonl
from marbury.split import is_held_out, split_of
from marbury.workspace import Counts, Workspace, write_atomic

SPLITS: tuple[Split, ...] = ("train", "valid", "test")

# White space, characters without width, and the punctuation that ends a word.
_UNHEARD = re.compile("\\s+|[\u200b\u200c\u200d\u2060\ufeff]+|(?<=\\w)[.,;:!?'\"]+")

_DUPLICATE = "the same conversation with the same labels came before in this split"
_LEAK = "its request is also in a later split (valid or test)"
_NEAR = "its request is nearly one of a later split, or it was made from such a row"
_NO_SPLITS: Mapping[str, Split] = {}


@dataclass(frozen=True)
class DatasetSettings:
    """How the rows are divided."""

    seed: int = 0
    """Seed of the split; the same as that of `augment`."""
    imports: tuple[Import, ...] = ()
    """Files of your own labelled rows, each a table `[[dataset.imports]]`."""


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


def divide(rows: Iterable[Example], seed: int, sides: Mapping[str, Split] = _NO_SPLITS) -> Dataset:
    """The rows by split, without duplicates and without requests that a later split also has, or nearly has.

    `sides` names the split of pairs that are not divided by the seed.

    Raises:
        DataError: a held-out transformation is in a row for training, or a split is empty.
    """
    splits: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    dropped: dict[str, list[str]] = {_DUPLICATE: [], _LEAK: [], _NEAR: []}
    seen: set[tuple[object, ...]] = set()
    for row in rows:
        split = sides.get(row.pair) or split_of(row.pair, seed)
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
    for number, split in enumerate(SPLITS[:-1]):
        near = _near(splits[split], [row for other in SPLITS[number + 1 :] for row in splits[other]])
        dropped[_NEAR] += [row.id for row in splits[split] if {row.id, row.origin} & near]
        splits[split] = [row for row in splits[split] if not {row.id, row.origin} & near]
    _check(splits)
    return Dataset(splits, dropped)


def _near(rows: Sequence[Example], later: Sequence[Example]) -> set[str]:
    """The ids of rows whose request nearly stands in a later split.

    Rows that augmentation made are not compared: two attacks with one template are near whatever they ask for.
    """

    def written(those: Sequence[Example]) -> dict[str, str]:
        return {row.id: "\n".join(message.content for message in row.request) for row in those if not row.chain}

    texts = written(rows)
    return {name for name, near in zip(texts, near_any(texts.values(), written(later).values()), strict=True) if near}


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
    """Write train, valid, test, the card, and aside what of imported files could not be used.

    Raises:
        WorkspaceError: examples or variants are not there yet.
        DataError: a row is malformed, a split is empty, or a held-out transformation is in a row for training.
        SettingsError: an import does not fit its file or the constitution.
    """
    examples = load(ws.need(ws.examples, "synth"))
    variants = load(ws.need(ws.variants, "augment"))
    policy = constitution.read(ws.constitution) if settings.imports else None
    slugs = [category.slug for category in (*policy.restricted, *policy.permitted)] if policy else []
    files = [(given, read_import(given, slugs)) for given in settings.imports]
    sides: dict[str, Split] = {}
    for given, imported in files:
        if given.use != "all":
            sides |= {row.pair: given.use for row in imported.examples}
    data = divide([*examples, *variants, *(row for _, one in files for row in one.examples)], settings.seed, sides)
    for split, path in zip(SPLITS, (ws.train, ws.valid, ws.test), strict=True):
        write_atomic(path, to_jsonl(data.splits[split]))
    aside = [one._asdict() for _, imported in files for one in imported.dropped]
    write_atomic(ws.set_aside, b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in aside))
    write_atomic(ws.card, card(data, settings.seed, files).encode())
    counts: Counts = {split: len(data.splits[split]) for split in SPLITS}
    if files:
        counts |= {"imported": sum(len(one.examples) for _, one in files), "set aside": len(aside)}
    dropped = {name: len(data.dropped[why]) for name, why in (("duplicates", _DUPLICATE), ("leaks", _LEAK))}
    return counts | dropped | {"near": len(data.dropped[_NEAR])}


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


def _import_lines(given: Import, imported: Imported, data: Dataset) -> list[str]:
    """What the card says of one imported file."""
    reasons = Counter(one.reason for one in imported.dropped)
    names = {row.id for row in imported.examples}
    used = {s: sum(row.id in names and row.source == given.name for row in data.splits[s]) for s in SPLITS}
    columns = ", ".join(f"{what} from {column!r}" for what, column in imported.columns.items())
    return [
        f"### {given.name}",
        "",
        f"- file {Path(given.path).name}, sha256 {imported.sha256}, licence {given.licence or 'not given'}",
        f"- {len(imported.examples) + len(imported.dropped)} rows; in {', '.join(f'{s} {n}' for s, n in used.items())}",
        f"- columns: {columns}",
        *(f"- {count} set aside: {reason}" for reason, count in reasons.most_common(10)),
        *([f"- {len(reasons) - 10} more reasons in dropped.jsonl"] if len(reasons) > 10 else []),
        "",
    ]


def card(data: Dataset, seed: int, files: Sequence[tuple[Import, Imported]] = ()) -> str:
    """The card: what is in each split, where it came from, and what was dropped."""
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
        *(["## Imported", ""] if files else []),
        *(line for given, imported in files for line in _import_lines(given, imported, data)),
        f"## Dropped (near: estimated Jaccard similarity of word triples from {NEAR})",
        "",
        *(
            f"- {len(ids)} because {reason}{': ' + ', '.join(ids) if ids else ''}"
            for reason, ids in data.dropped.items()
        ),
        "",
    ]
    return "\n".join(lines)
