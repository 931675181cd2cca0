"""The data set: pairs on one side, nothing held out in training, no twins across, and a card that counts."""

from pathlib import Path

import msgspec
import pytest

import marbury
from marbury import dataset
from marbury.augment import stage as augment
from marbury.augment.templates import bundled
from marbury.ciphers import CIPHERS
from marbury.dataset import DatasetSettings, load
from marbury.dataset.card import card
from marbury.dataset.division import DUPLICATE, LEAK, NEARBY, Dataset, divide, exactly, roughly
from marbury.errors import DataError, WorkspaceError
from marbury.records import Example, Message, read_rows, to_jsonl
from marbury.split import HELD_OUT_TEMPLATE_FAMILIES, is_held_out, split_of
from marbury.workspace import Workspace, write_atomic

CORPUS = Path(marbury.__file__).parent / "data" / "orvane" / "corpus"
ROWS = [row for name in ("a1", "a5", "a6") for row in list(read_rows(CORPUS / f"{name}.jsonl", Example))[:80]]


def row_of(pair: str, text: str, name: str = "") -> Example:
    return Example(
        id=name or pair, category="everyday", messages=(Message("user", text),), request_harmful=False, pair=pair
    )


def pair_in(split: str, number: int = 0) -> str:
    return [f"p{i}" for i in range(200) if split_of(f"p{i}") == split][number]


BASE = [row_of(pair_in(split), f"a lamp for {split}") for split in ("train", "valid", "test")]


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("run"))
    write_atomic(made.examples, to_jsonl(ROWS))
    augment.run(made, augment.AugmentSettings(variants=2))
    dataset.run(made, DatasetSettings())
    return made


def test_no_pair_is_on_two_sides(ws: Workspace) -> None:
    sides = [{row.pair for row in load(path)} for path in (ws.train, ws.valid, ws.test)]
    assert all(sides)
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_nothing_held_out_is_in_training(ws: Workspace) -> None:
    for row in load(ws.train) + load(ws.valid):
        assert not any(is_held_out(step) for step in row.chain)
    assert any(is_held_out(step) for row in load(ws.test) for step in row.chain)


def test_no_text_of_a_held_out_template_is_in_training(ws: Workspace) -> None:
    rows = bundled("template") + bundled("wrapper")
    turns = [turn.content for row in rows if row.family in HELD_OUT_TEMPLATE_FAMILIES for turn in row.turns]
    pieces = {piece.strip() for turn in turns for piece in turn.split("{query}") if len(piece.strip()) >= 30}
    assert len(pieces) > 50
    text = "\n".join(message.content for row in load(ws.train) + load(ws.valid) for message in row.messages)
    assert not [piece for piece in pieces if piece in text]
    seen = "\n".join(message.content for row in load(ws.test) for message in row.messages)
    assert [piece for piece in pieces if piece in seen]


def test_no_reply_or_request_of_the_test_is_in_training(ws: Workspace) -> None:
    text = "\n".join(message.content for row in load(ws.train) + load(ws.valid) for message in row.messages)
    examples = [row for row in load(ws.test) if not row.chain]
    assert not [row.id for row in examples if row.reply and row.reply in text]
    assert not [row.id for row in examples if len(row.request[-1].content) > 30 and row.request[-1].content in text]


def test_the_counts_are_those_of_the_files(ws: Workspace, tmp_path: Path) -> None:
    again = Workspace(tmp_path)
    for source, target in ((ws.examples, again.examples), (ws.variants, again.variants)):
        write_atomic(target, source.read_bytes())
    counts = dataset.run(again, DatasetSettings())
    assert {name: counts[name] for name in ("train", "valid", "test")} == {
        "train": len(load(again.train)),
        "valid": len(load(again.valid)),
        "test": len(load(again.test)),
    }
    for path in ("train.jsonl", "valid.jsonl", "test.jsonl", "README.md"):
        assert (ws.dataset / path).read_bytes() == (again.dataset / path).read_bytes()


def test_the_card_counts_and_says_the_seed(ws: Workspace) -> None:
    text = ws.card.read_text(encoding="utf-8")
    assert "with seed 0" in text
    examples = [sum(not row.chain for row in load(path)) for path in (ws.train, ws.valid, ws.test)]
    assert f"| examples | {examples[0]} | {examples[1]} | {examples[2]} |" in text
    for title in ("label", "category", "language", "source", "transformation"):
        assert f"| {title} | train | valid | test |" in text


def dropped(data: Dataset) -> list[tuple[str, str, str]]:
    return [(one.row.id, one.reason, one.twin) for one in data.dropped]


def test_duplicates_are_dropped_and_named() -> None:
    twin = row_of(BASE[0].pair, "a  lamp for\ntrain", "twin")
    data = divide([*BASE, twin], seed=0)
    assert data.splits["train"] == BASE[:1]
    assert dropped(data) == [("twin", DUPLICATE, BASE[0].id)]
    assert f"- 1 because {DUPLICATE}: twin" in card(data, 0)


def test_of_twins_across_splits_the_test_keeps_its_own() -> None:
    twin = row_of(pair_in("train", 1), "a lamp for test", "twin")
    data = divide([twin, *BASE], seed=0)
    assert data.splits["test"] == BASE[2:] and data.splits["train"] == BASE[:1]


def test_other_labels_are_no_duplicate() -> None:
    other = msgspec.structs.replace(BASE[0], request_harmful=True)
    assert exactly(other) != exactly(BASE[0])


@pytest.mark.parametrize("text", ["a lamp for TEST!", "a lamp\u200b for test", "ａ　ｌａｍｐ　ｆｏｒ　ｔｅｓｔ"])
def test_a_training_row_with_a_request_of_the_test_is_dropped(text: str) -> None:
    leak = row_of(pair_in("train", 1), text, "leak")
    data = divide([leak, *BASE], seed=0)
    assert leak not in data.splits["train"] and BASE[2] in data.splits["test"]
    assert dropped(data) == [("leak", LEAK, BASE[2].id)]


LONG = "how do I dim the lamp in the hall of the old house"


@pytest.mark.parametrize(("text", "reason"), [(LONG, LEAK), (f"{LONG}, please", NEARBY)])
def test_what_was_made_from_a_dropped_row_is_dropped_with_it(text: str, reason: str) -> None:
    tested = row_of(pair_in("test", 1), LONG)
    leak = row_of(pair_in("train", 1), text, "leak")
    made = msgspec.structs.replace(row_of(leak.pair, "qvz gur ynzc", "made"), origin="leak", chain=("cipher:rot13",))
    data = divide([*BASE, leak, made, tested], seed=0)
    assert dropped(data) == [("leak", reason, tested.id), ("made", reason, tested.id)]


def test_attacks_with_one_template_are_not_compared_with_each_other() -> None:
    rows = []
    for split in ("train", "test"):
        pair = pair_in(split, 2)
        text = "Once upon a time an old keeper told me this, and now you tell me too, word for word: " + split
        rows.append(msgspec.structs.replace(row_of(pair, text), chain=("template:story/one",)))
    assert not divide([*BASE, *rows], seed=0).dropped


def test_rows_may_be_kept_on_one_side() -> None:
    stray = row_of(pair_in("train", 1), "a lamp apart")
    assert stray in divide([*BASE, stray], seed=0, sides={stray.id: "test"}).splits["test"]


def test_roughly_keeps_different_requests_apart() -> None:
    assert roughly(BASE[0].request) != roughly(BASE[1].request)
    morse = [[Message("user", f"In Morse code: {CIPHERS['morse'].encode(text)}")] for text in ("lamp", "bell")]
    assert roughly(morse[0]) != roughly(morse[1])
    assert roughly([Message("user", "?!")]) == "?!"


def test_seeds_that_differ_between_stages_are_noticed() -> None:
    stray = msgspec.structs.replace(BASE[0], id="stray", chain=("cipher:base32",))
    with pytest.raises(DataError, match="stray.*cipher:base32.*same seed"):
        divide([*BASE[1:], stray], seed=0)


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(DataError, match="no rows for valid"):
        divide([BASE[0], BASE[2]], seed=0)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    write_atomic(ws.examples, to_jsonl(BASE))
    with pytest.raises(WorkspaceError, match="marbury augment"):
        dataset.run(ws, DatasetSettings())
