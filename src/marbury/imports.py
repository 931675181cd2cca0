"""People's own labelled data as examples: JSONL, CSV or Parquet, with requests, exchanges or whole conversations.

Columns are found by their usual names or named in the settings. A row that cannot be used is given back with the
reason and the place where it stands; nothing is lost in silence. What becomes of the examples is for `dataset`.
"""

import csv
import difflib
import gzip
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from marbury.errors import DataError, SettingsError
from marbury.records import Example, Message, Role

MOST_BAD = 0.2  # a file of which more than this share cannot be used is refused: its mapping is wrong
_NAMES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversation", "conversations", "chat", "dialog", "turns"),
    "request": ("request", "prompt", "question", "instruction", "user_input", "query", "goal", "text"),
    "reply": ("reply", "response", "answer", "output", "completion", "assistant"),
    "label": ("label", "harmful", "is_harmful", "unsafe", "toxic", "toxicity", "response_harm_label", "labels"),
    "request_label": ("request_label", "prompt_label", "prompt_harm_label", "request_harmful"),
    "category": ("category", "harm_category", "hazard", "topic", "policy"),
    "language": ("language", "lang", "locale"),
}
_HARMFUL = ("harmful", "unsafe", "toxic", "1", "true", "yes", "jailbreak", "bad", "flagged")
_HARMLESS = ("harmless", "safe", "benign", "0", "false", "no", "unharmful", "good", "ok")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "ai": "assistant", "model": "assistant"}


@dataclass(frozen=True)
class Import:
    """One file of labelled rows. Empty column names are found by their usual names."""

    path: str
    use: Literal["all", "train", "test"] = "all"  # divide it by request, or keep it on one side
    source: str = ""  # what its rows are called; empty: the file's name
    licence: str = ""  # for the card
    messages: str = ""  # column with whole conversations: a list of role and content
    request: str = ""  # column with the request
    reply: str = ""  # column with the reply
    label: str = ""  # column that labels the row's last message
    request_label: str = ""  # column that labels the request, where `label` speaks of the reply
    category: str = ""  # column with the category
    language: str = ""  # column with the language
    harmful: tuple[str, ...] = ()  # labels that mean harmful; empty: the usual words
    harmless: tuple[str, ...] = ()  # labels that mean harmless; empty: the usual words
    skip: tuple[str, ...] = ()  # labels whose rows are left out
    assume: Literal["", "harmful", "harmless"] = ""  # the label of every row of a file without a label column
    refusals: bool = False  # whether requests of harmless replies are harmful where no column says
    categories: dict[str, str] = field(default_factory=dict)  # their category -> ours; "" means none

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("an import needs a path")

    @property
    def name(self) -> str:
        """What its rows are called."""
        return self.source or Path(self.path).name.partition(".")[0]


class Dropped(NamedTuple):
    """A row that was not used: where it stands, and why."""

    where: str
    reason: str


class Imported(NamedTuple):
    """What came of one file. `columns`: which column was read as what."""

    examples: list[Example]
    dropped: list[Dropped]
    columns: dict[str, str]
    sha256: str


def read_import(given: Import, categories: Collection[str]) -> Imported:
    """The examples of one file, and the rows that could not be used.

    Raises:
        SettingsError: a category is mapped to none of ours, or a named column is not there.
        DataError: the file is missing, of no known kind, or more than a fifth of its rows cannot be used.
    """
    path = Path(given.path)
    _check_categories(given, categories)
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct its path under [[dataset.imports]] in marbury.toml")
    examples: list[Example] = []
    dropped: list[Dropped] = []
    columns: dict[str, str] = {}
    skipped = 0
    for number, row in _rows(path):
        where = f"{path.name}:{number}"
        try:
            columns = columns or columns_of(given, row, path)
            example = _example(given, columns, row, where, categories)
        except _Skip as skip:
            skipped += 1
            dropped.append(Dropped(where, str(skip)))
        except ValueError as error:
            dropped.append(Dropped(where, str(error)))
        else:
            examples.append(example)
    _check_share(path, examples, dropped, skipped)
    return Imported(examples, dropped, columns, _digest(path))


def columns_of(given: Import, row: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Which column is what: as the settings say, else by its usual name.

    Raises:
        SettingsError: a named column is not there, or there is no text or no label.
    """
    found: dict[str, str] = {}
    lower = {name.casefold(): name for name in row}
    for what, usual in _NAMES.items():
        named = getattr(given, what)
        if named and named not in row:
            raise SettingsError(f"{path}: no column {named!r} for {what}; there are {', '.join(map(repr, row))}")
        match = named or next((lower[name] for name in usual if name in lower), "")
        if match:
            found[what] = match
    if "messages" in found and not given.request:
        found.pop("request", None)
        found.pop("reply", None)
    if not {"messages", "request"} & found.keys():
        raise SettingsError(
            f"{path}: no column looks like a request or a conversation; there are {', '.join(map(repr, row))}: "
            'name one under [[dataset.imports]], for example request = "..."'
        )
    if "label" not in found and not given.assume:
        raise SettingsError(
            f"{path}: no column looks like a label; there are {', '.join(map(repr, row))}: name one under "
            '[[dataset.imports]] with label = "...", or give every row one label with assume = "harmful"'
        )
    return found


class _Skip(ValueError):
    """The settings leave this row out; that is no mistake of the file."""


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (of Parquet: row number) and columns of each row. A line that is no row has the column "" alone."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2].casefold()
    if kind == "parquet":
        yield from _parquet_rows(path)
    elif kind in ("jsonl", "ndjson", "csv", "tsv"):
        opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
        try:
            with opened as lines:
                if kind in ("csv", "tsv"):
                    reader = csv.DictReader(lines, delimiter="\t" if kind == "tsv" else ",")
                    yield from ((reader.line_num, dict(row)) for row in reader)
                else:
                    yield from _json_rows(lines)
        except (UnicodeDecodeError, csv.Error, OSError) as error:
            raise DataError(f"{path}: cannot be read as {kind}: {error}") from error
    else:
        raise DataError(f"{path}: of no known kind; give .jsonl, .csv, .tsv (each also .gz) or .parquet")


def _json_rows(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield number, row if isinstance(row, dict) else {}


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    from pyarrow import parquet

    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error


def _example(
    given: Import, columns: Mapping[str, str], row: Mapping[str, Any], where: str, categories: Collection[str]
) -> Example:
    """One row as an example. Raises ValueError with the reason why it cannot be one."""
    if not row:
        raise ValueError("not a JSON object")
    messages = _conversation(columns, row)
    replied = messages[-1].role == "assistant"
    harmful = _label(given, row.get(columns["label"])) if "label" in columns else given.assume == "harmful"
    asked = harmful
    if replied:
        told = row.get(columns["request_label"]) if "request_label" in columns else None
        asked = _label(given, told) if told not in (None, "") else harmful or given.refusals
    request = messages[:-1] if replied else messages
    text = json.dumps([(m.role, " ".join(m.content.split()).casefold()) for m in request])
    return Example(
        id=where,
        category=_category(given, str(row.get(columns.get("category", "")) or ""), asked, categories),
        messages=messages,
        request_harmful=asked,
        reply_harmful=harmful if replied else None,
        pair=f"import:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}",
        language=str(row.get(columns.get("language", "")) or "en"),
        source=given.name,
    )


def _conversation(columns: Mapping[str, str], row: Mapping[str, Any]) -> tuple[Message, ...]:
    if "messages" not in columns:
        request, reply = row.get(columns["request"]), row.get(columns.get("reply", ""))
        messages = [_message("user", request)]
        if reply not in (None, ""):
            messages.append(_message("assistant", reply))
        return tuple(messages)
    value = row.get(columns["messages"])
    talk = json.loads(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
    if not isinstance(talk, list) or not talk:
        raise ValueError(f"column {columns['messages']!r} is not a list of messages")
    messages = [_turn(turn) for turn in talk]
    if not any(message.role == "user" for message in messages) or messages[-1].role not in ("user", "assistant"):
        raise ValueError("the conversation has no user turn, or ends with neither a request nor a reply")
    return tuple(messages)


def _turn(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise ValueError("a message is not an object with role and content")
    role = str(turn.get("role") or turn.get("from") or "").casefold()
    return _message(_ROLES.get(role, role), turn.get("content", turn.get("value")))


def _message(role: str, content: Any) -> Message:
    if role not in get_args(Role):
        raise ValueError(f"a message has the unknown role {role!r}")
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"the text of a {role} message is missing or empty")
    return Message(role, content)  # type: ignore[arg-type]


def _label(given: Import, value: Any) -> bool:
    text = str(int(value)) if isinstance(value, bool | float) else str(value)
    text = text.strip()
    if text in given.skip:
        raise _Skip(f"label {text!r} is left out by the settings")
    for words, usual, harmful in ((given.harmful, _HARMFUL, True), (given.harmless, _HARMLESS, False)):
        if text in words or (not words and text.casefold() in usual):
            return harmful
    raise ValueError(f"label {text!r} means neither harmful nor harmless: name it in harmful, harmless or skip")


def _category(given: Import, theirs: str, harmful: bool, categories: Collection[str]) -> str:
    if theirs in given.categories:
        return given.categories[theirs]
    return theirs if theirs in categories or not harmful else ""


def _check_categories(given: Import, categories: Collection[str]) -> None:
    for theirs, ours in given.categories.items():
        if ours and ours not in categories:
            near = difflib.get_close_matches(ours, sorted(categories), n=3, cutoff=0.3) or sorted(categories)
            raise SettingsError(
                f"[[dataset.imports]] {given.path}: category {theirs!r} is mapped to {ours!r}, which the constitution "
                f"does not have; near: {', '.join(near)}"
            )


def _check_share(path: Path, examples: Sequence[Example], dropped: Sequence[Dropped], skipped: int) -> None:
    bad = len(dropped) - skipped
    if not examples or bad > MOST_BAD * (len(examples) + bad):
        reasons = "; ".join(f"{one.where}: {one.reason}" for one in dropped[:3]) or "it has no rows"
        raise DataError(f"{path}: {bad} of {len(examples) + bad} rows cannot be used ({reasons})")


def _digest(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
