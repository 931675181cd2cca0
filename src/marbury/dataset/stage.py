"""The door of `dataset`: reads examples, variants and people's own files, writes the splits, the card and what is
left out with its reason.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from marbury import constitution
from marbury.dataset.card import Source, card
from marbury.dataset.division import DUPLICATE, LEAK, NEARBY, SPLITS, Dataset, divide
from marbury.dataset.imports import read_import
from marbury.dataset.mapping import Import, places
from marbury.records import Example, Split, read_rows, to_jsonl
from marbury.workspace import Counts, Workspace, write_atomic


@dataclass(frozen=True)
class DatasetSettings:
    """How the rows are divided."""

    seed: int = 0
    """Seed of the split; the same as that of `augment`."""
    imports: tuple[Import, ...] = ()
    """Files of your own labelled rows, each a table `[[dataset.imports]]`."""

    def __post_init__(self) -> None:
        paths = [one.path for one in self.imports]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        if twice:
            raise ValueError(f"imports name {twice[0]} twice")


class LeftOut(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of `dropped.jsonl`: its place or id, where it came from, why it was left out, and the row it repeats."""

    where: str
    source: str
    reason: str
    twin: str = ""


def load(path: Path) -> list[Example]:
    """The rows of one split.

    Raises:
        DataError: the file is missing or malformed.
    """
    return list(read_rows(path, Example))


def run(ws: Workspace, settings: DatasetSettings) -> Counts:
    """Write train, valid, test, the card, and aside what was left out.

    Raises:
        WorkspaceError: examples or variants are not there yet.
        DataError: a row is malformed, a split is empty, or a held-out transformation is in a row for training.
        SettingsError: an import does not fit its file or the constitution.
    """
    examples = load(ws.need(ws.examples, "synth"))
    variants = load(ws.need(ws.variants, "augment"))
    sources = _sources(ws, settings.imports)
    imported = [row for one in sources for row in one.imported.examples]
    sides: dict[str, Split] = {
        row.id: one.given.use for one in sources if one.given.use != "all" for row in one.imported.examples
    }
    data = divide([*examples, *variants, *imported], settings.seed, sides)
    for split, path in zip(SPLITS, (ws.train, ws.valid, ws.test), strict=True):
        write_atomic(path, to_jsonl(data.splits[split]))
    write_atomic(ws.set_aside, to_jsonl(_left_out(data, sources)))
    write_atomic(ws.card, card(data, settings.seed, sources).encode())
    return _counts(data, sources)


def _sources(ws: Workspace, imports: Sequence[Import]) -> list[Source]:
    if not imports:
        return []
    policy = constitution.read(ws.constitution)
    slugs = [category.slug for category in (*policy.restricted, *policy.permitted)]
    return [
        Source(one, place, read_import(one, slugs, place)) for one, place in zip(imports, places(imports), strict=True)
    ]


def _left_out(data: Dataset, sources: Sequence[Source]) -> Iterator[LeftOut]:
    for one in sources:
        for where, reason in one.imported.unused:
            yield LeftOut(where, one.given.name, reason)
    for row, reason, twin in data.dropped:
        yield LeftOut(row.id, row.source, reason, twin)


def _counts(data: Dataset, sources: Sequence[Source]) -> Counts:
    counts: Counts = {split: len(data.splits[split]) for split in SPLITS}
    if sources:
        counts["imported"] = sum(len(one.imported.examples) for one in sources)
        counts["set aside"] = sum(len(one.imported.unused) for one in sources)
    for name, reason in (("duplicates", DUPLICATE), ("leaks", LEAK), ("near", NEARBY)):
        counts[name] = sum(one.reason == reason for one in data.dropped)
    return counts
