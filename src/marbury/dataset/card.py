"""The card of a data set: what is in each split, where every row came from, and what was left out."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from marbury.dataset.division import REASONS, SPLITS, Dataset
from marbury.dataset.imports import Imported
from marbury.dataset.mapping import Import
from marbury.dataset.near import NEAR
from marbury.records import Example, Split

_LONGEST = 40  # lines of a table, reasons of a file and ids of a reason; the rest is counted
_WORDS = {True: "harmful", False: "harmless", None: "none"}


class Source(NamedTuple):
    """One imported file: its settings, what it is called in ids, and what came of it."""

    given: Import
    place: str
    imported: Imported


def card(data: Dataset, seed: int, sources: Sequence[Source] = ()) -> str:
    """The card, in Markdown."""
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
        *(["## Imported", ""] if sources else []),
        *(line for one in sources for line in _of_file(one, data)),
        f"## Dropped (near: Jaccard similarity of words and word triples from {NEAR})",
        "",
        *(_of_reason(reason, [one.row.id for one in data.dropped if one.reason == reason]) for reason in REASONS),
        "",
    ]
    return "\n".join(lines)


def _label(row: Example) -> str:
    return f"request {_WORDS[row.request_harmful]}, reply {_WORDS[row.reply_harmful]}"


def _steps(row: Example) -> list[str]:
    """The steps of a row; templates by their family."""
    return [step.partition("/")[0] for step in row.chain] or ["(none)"]


def _table(title: str, data: Dataset, values: Callable[[Example], Iterable[str]]) -> list[str]:
    """One table of the card: how many rows of each split have a value; of very many values the most frequent."""
    counts: dict[str, Counter[Split]] = defaultdict(Counter)
    for split in SPLITS:
        for row in data.splits[split]:
            for value in values(row):
                counts[_cell(value)][split] += 1
    many = len(counts) > 2 * _LONGEST
    names = sorted(counts, key=lambda name: (-counts[name].total(), name))[:_LONGEST] if many else list(counts)
    lines = [_line(name, counts[name]) for name in sorted(names)]
    if many:
        rest = sum((counts[name] for name in counts if name not in names), Counter[Split]())
        lines.append(_line(f"({len(counts) - len(names)} more)", rest))
    return [_line(title, None), "|---|---:|---:|---:|", *lines, ""]


def _line(name: str, counts: Mapping[Split, int] | None) -> str:
    return f"| {name} | {' | '.join(split if counts is None else str(counts[split]) for split in SPLITS)} |"


def _cell(text: str) -> str:
    """A text from a file as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")[:80] or "(none)"


def _of_file(one: Source, data: Dataset) -> list[str]:
    """What the card says of one imported file."""
    given, imported = one.given, one.imported
    ids = {row.id for row in imported.examples}
    kept = {split: [row for row in data.splits[split] if row.id in ids] for split in SPLITS}
    used = [row for split in SPLITS for row in kept[split]]
    reasons = Counter(reason for _, reason in imported.unused)
    reasons += Counter(repeat.reason for repeat in data.dropped if repeat.row.id in ids)
    left = reasons.total()
    columns = ", ".join(f"{what} from {column!r}" for what, column in imported.columns.items())
    return [
        f"### {one.place}",
        "",
        f"- file {given.path}, sha256 {imported.sha256}, licence {given.licence or 'not given'}",
        f"- columns: {columns}" + (f"; every row is taken as {given.assume}" if given.assume else ""),
        f"- {len(used) + left} rows read, {len(used)} used: {', '.join(f'{s} {len(kept[s])}' for s in SPLITS)}",
        f"- labels: {_shares(map(_label, used))}",
        f"- categories: {_shares(row.category for row in used)}",
        f"- languages: {_shares(row.language for row in used)}",
        *(f"- {count} left out: {_cell(reason)}" for reason, count in reasons.most_common(_LONGEST)),
        *([f"- {len(reasons) - _LONGEST} more reasons in dropped.jsonl"] if len(reasons) > _LONGEST else []),
        "",
    ]


def _shares(values: Iterable[str]) -> str:
    counts = Counter(map(_cell, values))
    rest = counts.total() - sum(count for _, count in counts.most_common(_LONGEST))
    named = [f"{value} {count}" for value, count in counts.most_common(_LONGEST)]
    return "; ".join([*named, f"others {rest}"] if rest else named) or "no rows"


def _of_reason(reason: str, ids: Sequence[str]) -> str:
    rest = f" and {len(ids) - _LONGEST} more, in dropped.jsonl" if len(ids) > _LONGEST else ""
    return f"- {len(ids)} because {reason}{': ' + ', '.join(ids[:_LONGEST]) if ids else ''}{rest}"
