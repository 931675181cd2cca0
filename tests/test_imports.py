"""People's own labelled files: every shape and kind, found and named columns, and nothing lost in silence."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marbury import dataset
from marbury.dataset import DatasetSettings, load
from marbury.errors import DataError, SettingsError
from marbury.imports import Import, read_import
from marbury.records import Example, Message, to_jsonl
from marbury.settings import build
from marbury.split import split_of
from marbury.workspace import Workspace, write_atomic

CATEGORIES = ("lamps", "everyday")
ROWS = [
    {"prompt": "How do I dim the lamp?", "response": "Turn the little wheel.", "label": "safe"},
    {"prompt": "How do I steal the lamp?", "response": "At night, through the window.", "label": "unsafe"},
]


def jsonl(path: Path, rows: list[object]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def labels(given: Import) -> list[tuple[bool, bool | None]]:
    return [(row.request_harmful, row.reply_harmful) for row in read_import(given, CATEGORIES).examples]


def test_all_kinds_of_files_give_the_same_examples(tmp_path: Path) -> None:
    plain = jsonl(tmp_path / "rows.jsonl", [*ROWS])
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as out:
        out.writelines(json.dumps(row) + "\n" for row in ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    with (tmp_path / "rows.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    wanted = [(row.messages, row.reply_harmful) for row in read_import(Import(plain), CATEGORIES).examples]
    assert wanted == [
        ((Message("user", "How do I dim the lamp?"), Message("assistant", "Turn the little wheel.")), False),
        ((Message("user", "How do I steal the lamp?"), Message("assistant", "At night, through the window.")), True),
    ]
    for name in ("rows.jsonl.gz", "rows.parquet", "rows.csv"):
        found = read_import(Import(str(tmp_path / name)), CATEGORIES).examples
        assert [(row.messages, row.reply_harmful) for row in found] == wanted


def test_a_prompt_alone_has_no_reply_and_a_constant_label_serves_a_file_without_one(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "goals.jsonl", [{"goal": "Take the lamp"}, {"goal": "Break the lamp"}])
    assert labels(Import(path, assume="harmful")) == [(True, None), (True, None)]


@pytest.mark.parametrize("shape", [{"role": "user", "content": "Hi"}, {"from": "human", "value": "Hi"}])
def test_conversations_come_in_both_usual_shapes(tmp_path: Path, shape: dict[str, str]) -> None:
    path = jsonl(tmp_path / "talk.jsonl", [{"conversations": [shape], "is_harmful": False, "text": "not read"}])
    found = read_import(Import(path), CATEGORIES)
    assert found.examples[0].messages == (Message("user", "Hi"),)
    assert found.columns == {"messages": "conversations", "label": "is_harmful"}


def test_the_label_of_a_request_comes_from_its_column_or_from_the_reply(tmp_path: Path) -> None:
    refused = {"prompt": "How do I steal it?", "reply": "I won't say.", "label": 0, "prompt_label": "harmful"}
    unknown = {"prompt": "How do I steal it?", "reply": "I won't say.", "label": 0, "prompt_label": None}
    path = jsonl(tmp_path / "rows.jsonl", [refused, unknown])
    assert labels(Import(path)) == [(True, False), (False, False)]
    assert labels(Import(path, refusals=True)) == [(True, False), (True, False)]


def test_named_columns_and_words_go_before_the_usual_ones(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [{"text": "wrong", "ask": "Dim it?", "verdict": "fine", "label": "?"}] * 3)
    given = Import(path, request="ask", label="verdict", harmless=("fine",), harmful=("foul",), source="desk")
    found = read_import(given, CATEGORIES).examples
    assert {(row.messages[0].content, row.request_harmful, row.source) for row in found} == {("Dim it?", False, "desk")}


def test_categories_are_mapped_to_the_constitution(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {kind}", "label": 1, "category": kind} for kind in ("S1", "lamps", "other", "none")]
    path = jsonl(tmp_path / "rows.jsonl", [*rows])
    found = read_import(Import(path, categories={"S1": "lamps", "none": ""}), CATEGORIES).examples
    assert [row.category for row in found] == ["lamps", "lamps", "", ""]
    with pytest.raises(SettingsError, match="'S1' is mapped to 'lamp', which the constitution does not have; near: la"):
        read_import(Import(path, categories={"S1": "lamp"}), CATEGORIES)


def test_bad_rows_stand_aside_with_place_and_reason(tmp_path: Path) -> None:
    good = {"prompt": "a", "label": 0}
    bad: list[object] = ["not json", {"prompt": " ", "label": 0}, {"prompt": "b", "label": "maybe"}]
    path = jsonl(tmp_path / "rows.jsonl", [*[good] * 14, *bad, {"prompt": "c", "label": "later"}])
    found = read_import(Import(path, skip=("later",)), CATEGORIES)
    assert len(found.examples) == 14
    assert [(one.where, one.reason.partition(":")[0]) for one in found.dropped] == [
        ("rows.jsonl:15", "not a JSON object"),
        ("rows.jsonl:16", "the text of a user message is missing or empty"),
        ("rows.jsonl:17", "label 'maybe' means neither harmful nor harmless"),
        ("rows.jsonl:18", "label 'later' is left out by the settings"),
    ]


def test_a_file_of_which_too_much_is_bad_is_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "label": 0}, {"prompt": "b", "label": "maybe"}])
    with pytest.raises(DataError, match=r"1 of 2 rows cannot be used \(rows.jsonl:2: label 'maybe'"):
        read_import(Import(path), CATEGORIES)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", '{"a": 1}\n', "no column looks like a request or a conversation; there are 'a'"),
        ("x.jsonl", '{"prompt": "a"}\n', "no column looks like a label; there are 'prompt'"),
        ("x.txt", "a", "of no known kind; give .jsonl"),
        ("x.parquet", "no parquet", "cannot be read as Parquet"),
        ("x.csv", "", "0 of 0 rows cannot be used"),
    ],
)
def test_a_file_that_does_not_fit_says_what_to_do(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises((DataError, SettingsError), match=message):
        read_import(Import(str(tmp_path / name)), CATEGORIES)


def test_a_named_column_that_is_missing_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "label": 0}])
    with pytest.raises(SettingsError, match="no column 'ask' for request; there are 'prompt', 'label'"):
        read_import(Import(path, request="ask"), CATEGORIES)
    with pytest.raises(DataError, match=r"gone.jsonl: no such file; correct its path under \[\[dataset.imports\]\]"):
        read_import(Import(str(tmp_path / "gone.jsonl")), CATEGORIES)


def test_settings_come_as_tables_and_name_the_nearest_key() -> None:
    table = {"imports": [{"path": "a.jsonl", "categories": {"S1": "lamps"}, "harmful": ["bad"]}]}
    built = build(DatasetSettings, table, "marbury.toml [dataset]")
    assert built.imports == (Import("a.jsonl", categories={"S1": "lamps"}, harmful=("bad",)),)
    with pytest.raises(SettingsError, match=r"imports 1: unknown setting 'licens'; did you mean 'licence'\?"):
        build(DatasetSettings, {"imports": [{"path": "a", "licens": "MIT"}]}, "marbury.toml [dataset]")


def _own(number: int) -> Example:
    text = f"own question number {number} about the lamp of house {number}"
    return Example(
        id=f"own-{number}",
        category="everyday",
        messages=(Message("user", text),),
        request_harmful=False,
        pair=f"own-{number}",
    )


def _run_folder(root: Path) -> Workspace:
    ws = Workspace(root)
    policy = (
        "---\ntitle: Lamps\n---\n\n## Restricted\n\n### Lamps\n\nStealing lamps.\n\n- steal one\n\n"
        "## Permitted\n\n### Everyday\n\nDimming lamps.\n\n- dim one\n"
    )
    write_atomic(ws.constitution, policy.encode())
    write_atomic(ws.examples, to_jsonl(map(_own, range(40))))
    write_atomic(ws.variants, b"")
    return ws


def test_imports_keep_their_side_and_the_card_says_where_rows_came_from(tmp_path: Path) -> None:
    ws = _run_folder(tmp_path)
    rows: list[object] = [{"prompt": f"may I take lamp {n} from shelf {n}", "label": n % 2} for n in range(12)]
    train = Import(jsonl(tmp_path / "train.jsonl", rows), use="train", licence="MIT")
    test = Import(jsonl(tmp_path / "test.jsonl", [{"prompt": "is lamp seven dear", "label": 0}]), use="test")
    counts = dataset.run(ws, DatasetSettings(imports=(train, test)))
    assert (counts["imported"], counts["set aside"]) == (13, 0)
    assert {row.source for row in load(ws.train)} == {"", "train"}
    assert [row.source for row in load(ws.test) if row.source] == ["test"]
    card = ws.card.read_text()
    assert "- file train.jsonl, sha256 " in card and "licence MIT" in card and "licence not given" in card
    before = [path.read_bytes() for path in (ws.train, ws.valid, ws.test, ws.card, ws.set_aside)]
    dataset.run(ws, DatasetSettings(imports=(train, test)))
    assert before == [path.read_bytes() for path in (ws.train, ws.valid, ws.test, ws.card, ws.set_aside)]


def test_a_training_row_that_is_nearly_a_test_row_is_dropped(tmp_path: Path) -> None:
    ws = _run_folder(tmp_path)
    tested = next(n for n in range(40) if split_of(f"own-{n}") == "test")
    text = f"Own question number {tested} about the lamp of house {tested}"
    rows: list[object] = [{"prompt": one, "label": 0} for one in (f"{text}!", f"{text} please", "something else")]
    given = Import(jsonl(tmp_path / "mine.jsonl", rows), use="train")
    before = dataset.run(ws, DatasetSettings())
    counts = dataset.run(ws, DatasetSettings(imports=(given,)))
    assert [row.messages[0].content for row in load(ws.train) if row.source] == ["something else"]
    assert counts["leaks"] == 1 and counts["near"] == int(before["near"] or 0) + 1
