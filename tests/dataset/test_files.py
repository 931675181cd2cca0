"""Every kind of file gives the same rows; a broken line is a reason, a broken file an error."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marbury.dataset.files import read_file
from marbury.errors import DataError

ROWS = [
    {"prompt": "How do I dim\nthe lamp?", "label": "safe"},
    {"prompt": 'A "quoted", long one: ' + "lamp " * 40_000, "label": "unsafe"},
    {"prompt": "灯", "label": ""},
]


@pytest.mark.parametrize(
    "name",
    ["a.jsonl", "a.jsonl.gz", "a.ndjson", "a.JSONL", "a.json", "a.csv", "a.csv.gz", "a.tsv", "a.parquet"],
)
def test_all_kinds_of_files_give_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    kind = name.casefold().removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        with (gzip.open if name.endswith("gz") else open)(path, "wt", encoding="utf-8-sig", newline="") as out:
            if kind in ("csv", "tsv"):
                writer = csv.DictWriter(out, list(ROWS[0]), delimiter="\t" if kind == "tsv" else ",")
                writer.writeheader()
                writer.writerows(ROWS)
            elif kind == "json":
                json.dump(ROWS, out)
            else:
                out.writelines(json.dumps(row) + "\n\n" for row in ROWS)
    assert [row for _, row in read_file(path)] == ROWS


def test_a_line_that_is_no_row_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\nnot json\n[1]\n{"a": "\xff"}\n{"a": "\\ud800"}\n{"a": 2}\n')
    found = list(read_file(path))
    assert [number for number, _ in found] == [1, 3, 4, 5, 6, 7]
    assert [row for _, row in found if isinstance(row, dict)] == [{"a": 1}, {"a": 2}]
    table = tmp_path / "a.csv"
    table.write_text('a,b\n1,"x\ny"\n1\n1,2,3\n')
    assert list(read_file(table)) == [
        (3, {"a": "1", "b": "x\ny"}),
        (4, "more or fewer cells than the head of the table"),
        (5, "more or fewer cells than the head of the table"),
    ]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"a", "a.txt: of no known kind; give .jsonl"),
        ("jsonl", b"a", "of no known kind"),
        ("a.parquet", b"no parquet", "cannot be read as Parquet"),
        ("a.jsonl.gz", b"no gzip", "cannot be read as jsonl"),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 1000)[:-20], "cannot be read as csv"),
        ("a.csv", b"a\n\xff\n", "cannot be read as csv"),
        ("a.json", b"{}", "cannot be read as json: it is not a list"),
        ("a.json", b"[", "cannot be read as json"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        list(read_file(tmp_path / name))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone.csv: no such file"):
        next(read_file(tmp_path / "gone.csv"))


def test_rows_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\n1\n" + b"2\n" * 100_000 + b"\xff\n")  # the end cannot be read, the first row can
    assert next(read_file(path)) == (2, {"a": "1"})
