"""The rows of people's files, one at a time, each with the number of its line: JSONL, JSON, CSV, TSV and Parquet."""

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from marbury.errors import DataError

Row = dict[str, Any]
KINDS = ".jsonl, .ndjson, .json, .csv, .tsv (each also .gz) or .parquet"
_LONGEST_CELL = 1 << 26  # characters; the csv module itself stops at 131,072


def kind_of(path: Path) -> str:
    """How a file is to be read, by the end of its name; "" for an unknown one."""
    _, dot, kind = path.name.casefold().removesuffix(".gz").rpartition(".")
    return kind if dot and (kind in _READERS or kind == "parquet") else ""


def read_file(path: Path) -> Iterator[tuple[int, Row | str]]:
    """Number of the line (of a table or a list: of the row) and the row there, or the reason why it is none.

    Raises:
        DataError: the file is missing, of no known kind, or cannot be read at all.
    """
    kind = kind_of(path)
    if not kind:
        raise DataError(f"{path}: of no known kind; give {KINDS}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if kind == "parquet":
        yield from _parquet(path)
        return
    try:
        with _opened(path) as data:
            yield from _READERS[kind](data)
    except (UnicodeDecodeError, csv.Error, OSError, EOFError, zlib.error, msgspec.DecodeError) as error:
        raise DataError(f"{path}: cannot be read as {kind}: {error}") from error


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.casefold() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _jsonl(lines: Iterable[bytes]) -> Iterator[tuple[int, Row | str]]:
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text.strip():
            try:
                row = msgspec.json.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError):
                row = None
            yield number, row if isinstance(row, dict) else "not a JSON object"


def _json(data: IO[bytes]) -> Iterator[tuple[int, Row | str]]:
    rows = msgspec.json.decode(data.read().removeprefix(b"\xef\xbb\xbf"))
    if not isinstance(rows, list):
        raise OSError("it is not a list of objects")
    for number, row in enumerate(rows, 1):
        yield number, row if isinstance(row, dict) else "not a JSON object"


def _csv(lines: Iterable[bytes], delimiter: str = ",") -> Iterator[tuple[int, Row | str]]:
    csv.field_size_limit(_LONGEST_CELL)
    # Lines keep their ends: a cell may hold some.
    reader = csv.DictReader(_decoded(lines), delimiter=delimiter)
    for row in reader:
        whole = None not in row and None not in row.values()
        yield reader.line_num, row if whole else "more or fewer cells than the head of the table"


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield (line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).decode()


def _tsv(lines: Iterable[bytes]) -> Iterator[tuple[int, Row | str]]:
    return _csv(lines, "\t")


_READERS = {"jsonl": _jsonl, "ndjson": _jsonl, "json": _json, "csv": _csv, "tsv": _tsv}


def _parquet(path: Path) -> Iterator[tuple[int, Row | str]]:
    import pyarrow
    from pyarrow import parquet

    try:
        number = 0
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1000):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error
