"""The stage with imported files: sides, repeats across splits, what is left out, the card, and the same bytes again."""

import json
from pathlib import Path
from typing import Any

import pytest

from marbury import dataset
from marbury.dataset import DatasetSettings, load
from marbury.dataset.columns import Fields
from marbury.dataset.mapping import Import
from marbury.errors import SettingsError
from marbury.records import Example, Message, to_jsonl
from marbury.split import split_of
from marbury.workspace import Workspace, write_atomic

POLICY = (
    "---\ntitle: Lamps\n---\n\n## Restricted\n\n### lamps\n\nStealing lamps.\n\n- steal one\n\n"
    "## Permitted\n\n### everyday\n\nDimming lamps.\n\n- dim one\n"
)
TESTED = next(number for number in range(40) if split_of(f"own-{number}") == "test")


def own(number: int, system: str = "") -> Example:
    text = f"own question number {number} about the lamp of house {number}"
    return Example(
        id=f"own-{number}",
        category="everyday",
        messages=(*([Message("system", system)] if system else []), Message("user", text)),
        request_harmful=False,
        pair=f"own-{number}",
    )


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "run")
    write_atomic(made.constitution, POLICY.encode())
    write_atomic(made.examples, to_jsonl(map(own, range(40))))
    write_atomic(made.variants, b"")
    return made


def jsonl(path: Path, rows: list[Any]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_imports_keep_their_side_and_the_card_says_where_rows_came_from(ws: Workspace, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"may I take lamp {n} from shelf {n}", "label": n % 2, "topic": "T1", "lang": "fr"}
        for n in range(12)
    ]
    train = Import(
        jsonl(tmp_path / "mine.jsonl", [*rows, {"prompt": "", "label": 1}, rows[0]]),
        use="train",
        licence="MIT",
        categories={"T1": "lamps"},
    )
    tested = jsonl(tmp_path / "other.jsonl", [{"prompt": "is lamp seven dear", "label": 0}])
    settings = DatasetSettings(imports=(train, Import(tested, use="test", source="shop")))
    counts = dataset.run(ws, settings)
    assert (counts["imported"], counts["set aside"], counts["duplicates"]) == (14, 1, 1)
    assert {row.source for row in load(ws.train)} == {"", "mine"}
    assert [row.source for row in load(ws.test) if row.source] == ["shop"]
    assert [(one["where"], one["source"], one.get("twin")) for one in lines(ws.set_aside)] == [
        ("mine.jsonl:13", "mine", None),
        ("mine.jsonl:14", "mine", "mine.jsonl:1"),
    ]
    card = ws.card.read_text()
    for line in (
        "licence MIT",
        "licence not given",
        "- columns: request from 'prompt', label from 'label', category from 'topic', language from 'lang'",
        "- 14 rows read, 12 used: train 12, valid 0, test 0",
        "- labels: request harmless, reply none 6; request harmful, reply none 6",
        "- categories: lamps 12",
        "- languages: fr 12",
        "- 1 left out: the text of a user message is missing",
        "- 1 left out: the same conversation with the same labels came before",
    ):
        assert line in card
    files = (ws.train, ws.valid, ws.test, ws.card, ws.set_aside)
    before = [path.read_bytes() for path in files]
    dataset.run(ws, settings)
    assert before == [path.read_bytes() for path in files]


def test_a_training_row_that_is_nearly_a_test_row_is_dropped(ws: Workspace, tmp_path: Path) -> None:
    text = f"Own question number {TESTED} about the lamp of house {TESTED}"
    rows = [{"prompt": one, "label": 0} for one in (f"{text}!", f"{text} please", "something else")]
    given = Import(jsonl(tmp_path / "mine.jsonl", rows), use="train")
    counts = dataset.run(ws, DatasetSettings(imports=(given,)))
    assert [row.messages[0].content for row in load(ws.train) if row.source] == ["something else"]
    assert (counts["leaks"], counts["near"]) == (1, 1)
    assert [(one["where"], one["twin"]) for one in lines(ws.set_aside)] == [
        ("mine.jsonl:1", f"own-{TESTED}"),
        ("mine.jsonl:2", f"own-{TESTED}"),
    ]


@pytest.mark.parametrize("order", [("train", "test"), ("test", "train")])
def test_a_request_in_a_file_for_training_and_in_one_for_the_test_stays_in_the_test(
    ws: Workspace, tmp_path: Path, order: tuple[Any, Any]
) -> None:
    paths = {use: jsonl(tmp_path / f"{use}.jsonl", [{"prompt": "is it dear?", "label": 0}]) for use in order}
    counts = dataset.run(ws, DatasetSettings(imports=tuple(Import(paths[use], use=use) for use in order)))
    assert [row.id for row in load(ws.test) if row.source] == ["test.jsonl:1"]
    assert not [row for row in load(ws.train) if row.source] and counts["leaks"] == 1


def test_files_of_one_name_are_told_apart(ws: Workspace, tmp_path: Path) -> None:
    paths = [jsonl(tmp_path / folder / "x.jsonl", [{"prompt": f"ask {folder}", "label": 0}]) for folder in ("a", "b")]
    dataset.run(ws, DatasetSettings(imports=tuple(Import(path, use="train") for path in paths)))
    assert {row.id for row in load(ws.train) if row.source} == {f"{path}:1" for path in paths}
    assert ws.card.read_text().count("1 rows read, 1 used") == 2


def test_pairs_of_their_own_stay_together(ws: Workspace, tmp_path: Path) -> None:
    rows = [{"prompt": f"way {n} to ask about shelf {n} or {n * n}", "label": 0, "pair": n // 4} for n in range(80)]
    dataset.run(ws, DatasetSettings(imports=(Import(jsonl(tmp_path / "x.jsonl", rows)),)))
    sides = [{row.pair for row in load(path) if row.source} for path in (ws.train, ws.valid, ws.test)]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 20


def test_a_long_common_system_text_does_not_make_conversations_near(ws: Workspace) -> None:
    system = "You are the keeper of the lamps and answer with care. " * 40
    write_atomic(ws.examples, to_jsonl(own(number, system) for number in range(40)))
    assert dataset.run(ws, DatasetSettings())["near"] == 0


def test_a_wrong_category_is_named_with_those_of_the_constitution(ws: Workspace, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"prompt": "a", "label": 0}])
    with pytest.raises(SettingsError, match="near: lamps"):
        dataset.run(ws, DatasetSettings(imports=(Import(path, categories={"S": "lanps"}),)))


def test_tables_with_very_many_values_are_cut_in_the_card(ws: Workspace, tmp_path: Path) -> None:
    rows = [{"prompt": f"ask {n}", "label": 0, "site": f"site|{n}"} for n in range(100)]
    given = Import(jsonl(tmp_path / "x.jsonl", rows), use="train", fields=Fields(source="site"))
    dataset.run(ws, DatasetSettings(imports=(given,)))
    card = ws.card.read_text()
    assert "| (61 more) | 61 | 0 | 0 |" in card and "| site\\|0 | 1 | 0 | 0 |" in card
