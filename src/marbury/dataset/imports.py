"""People's own labelled data as examples: requests, exchanges or whole conversations.

A row that cannot be used is given back with the reason and the place where it stands; nothing is lost in silence.
What becomes of the examples is for `division`.
"""

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from marbury.dataset.columns import Columns, columns_of
from marbury.dataset.files import Row, read_file
from marbury.dataset.labels import Skip, label_text
from marbury.dataset.mapping import Import
from marbury.dataset.talk import talk_of, without_reply
from marbury.dataset.verdicts import verdict_of
from marbury.errors import DataError, SettingsError
from marbury.records import Example, Message
from marbury.workspace import hash_path

MOST_BAD = 0.2  # a file of which more than this share cannot be used is refused: its mapping is wrong
_HEAD = 100  # rows from which the columns are guessed


class Unused(NamedTuple):
    """A row that is no example: where it stands, and why."""

    where: str
    reason: str


class Imported(NamedTuple):
    """What came of one file. `columns`: which column was read as what; `skipped`: rows left out on purpose."""

    examples: list[Example]
    unused: list[Unused]
    skipped: int
    columns: Columns
    sha256: str


class _Asked(NamedTuple):
    """An example, and whether its file says of the request, and not only of the reply, that it is harmful."""

    example: Example
    told: bool


def guess(given: Import) -> Columns:
    """Which column of the file will be read as what.

    Raises:
        DataError: the file cannot be read.
        SettingsError: a named column is not there, or there is no text or no label.
    """
    rows = islice(read_file(Path(given.path)), _HEAD)
    return _columns(given, [row for _, row in rows])


def read_import(given: Import, categories: Collection[str], place: str = "") -> Imported:
    """The examples of one file, and the rows that could not be used. `place` is what the file is called in ids.

    Raises:
        SettingsError: a category is mapped to none of ours, or the columns do not fit.
        DataError: the file is missing, of no known kind, or more than a fifth of its rows cannot be used.
    """
    path = Path(given.path)
    _check_categories(given, categories)
    rows = read_file(path)
    head = list(islice(rows, _HEAD))
    columns = _columns(given, [row for _, row in head])
    asked: list[_Asked] = []
    unused: list[Unused] = []
    skipped = 0
    for number, row in chain(head, rows):
        where = f"{place or path.name}:{number}"
        try:
            asked.append(_example(given, columns, row, where, categories))
        except Skip as skip:
            skipped += 1
            unused.append(Unused(where, str(skip)))
        except ValueError as error:
            unused.append(Unused(where, str(error)))
    _check_share(path, len(asked), unused, skipped)
    return Imported(list(_agreed(asked)), unused, skipped, columns, hash_path(path))


def _columns(given: Import, head: Sequence[Row | str]) -> Columns:
    rows = [row for row in head if not isinstance(row, str)]
    if not rows:
        raise DataError(f"{given.path}: none of its first {_HEAD} lines is a row")
    return columns_of(given.fields, rows, given.path, labelled=not given.assume)


def _example(given: Import, columns: Columns, row: Row | str, where: str, categories: Collection[str]) -> _Asked:
    """One row as an example.

    Raises:
        Skip: the settings leave it out.
        ValueError: it cannot be one; says why.
    """
    if isinstance(row, str):
        raise ValueError(row)
    messages = talk_of(columns, row)
    if "label" not in columns and not given.assume:
        messages = without_reply(messages)  # nothing speaks of the reply
    verdict = verdict_of(given, columns, row, messages)
    example = Example(
        id=where,
        category=_category(given, row.get(columns.get("category", "")), categories),
        messages=messages,
        request_harmful=verdict.asked,
        reply_harmful=verdict.reply,
        pair=_pair(given, columns, row, messages if verdict.reply is None else messages[:-1]),
        language=label_text(row.get(columns.get("language", ""))) or "en",
        source=label_text(row.get(columns.get("source", ""))) or given.name,
        turns=verdict.turns,
    )
    return _Asked(example, verdict.told)


def _pair(given: Import, columns: Columns, row: Row, request: Sequence[Message]) -> str:
    """What keeps rows in one split: their column for it, else the request, in whatever file it stands."""
    if "pair" in columns:
        return f"{given.name}:{label_text(row.get(columns['pair']))}"
    text = json.dumps([(message.role, " ".join(message.content.split()).casefold()) for message in request])
    return f"import:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _agreed(asked: Sequence[_Asked]) -> Iterator[Example]:
    """The examples. A request that is harmful in one row is so in all that do not speak of it."""
    harmful = {_request(one.example) for one in asked if one.example.request_harmful}
    for one in asked:
        row = one.example
        again = not one.told and not row.request_harmful and _request(row) in harmful
        yield msgspec.structs.replace(row, request_harmful=True) if again else row


def _request(row: Example) -> bytes:
    return hashlib.sha256(msgspec.json.encode(row.request)).digest()


def _category(given: Import, theirs: Any, categories: Collection[str]) -> str:
    """Ours for theirs, which may be a name, a list, or truth values by name: the first that is known."""
    if isinstance(theirs, Mapping):
        theirs = [name for name, true in theirs.items() if true]
    names = [label_text(name) for name in theirs] if isinstance(theirs, list) else [label_text(theirs)]
    if len(names) == 1 and names[0] not in given.categories:
        names += [part.strip() for part in names[0].split(",")]
    ours = (given.categories.get(name, name if name in categories else "") for name in names)
    return next(filter(None, ours), "")


def _check_categories(given: Import, categories: Collection[str]) -> None:
    for theirs, ours in given.categories.items():
        if ours and ours not in categories:
            near = difflib.get_close_matches(ours, sorted(categories), n=3, cutoff=0.3) or sorted(categories)
            raise SettingsError(
                f"[[dataset.imports]] {given.path}: category {theirs!r} is mapped to {ours!r}, which the constitution "
                f"does not have; near: {', '.join(near)}"
            )


def _check_share(path: Path, used: int, unused: Sequence[Unused], skipped: int) -> None:
    bad = len(unused) - skipped
    if not used or bad > MOST_BAD * (used + bad):
        counts = Counter(one.reason for one in unused)
        first = {one.reason: one.where for one in reversed(unused)}
        reasons = "; ".join(f"{count} as at {first[why]}: {why}" for why, count in counts.most_common(3))
        raise DataError(f"{path}: {bad} of {used + bad} rows cannot be used ({reasons})")
