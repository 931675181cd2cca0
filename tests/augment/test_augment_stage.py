"""The door of augment: what is held out stays held out, and the same input gives the same bytes."""

from collections import Counter
from pathlib import Path

import pytest

import marbury
from marbury.augment.stage import AugmentSettings, decks_of, run
from marbury.augment.templates import Template
from marbury.errors import DataError, SettingsError, WorkspaceError
from marbury.records import Example, Message, read_rows, to_jsonl
from marbury.settings import build
from marbury.split import is_held_out, split_of
from marbury.workspace import Workspace, write_atomic

CORPUS = Path(marbury.__file__).parent / "data" / "orvane" / "corpus"
ROWS = [row for name in ("a1", "a4", "a6") for row in list(read_rows(CORPUS / f"{name}.jsonl", Example))[:60]]


def workspace(root: Path) -> Workspace:
    ws = Workspace(root)
    write_atomic(ws.examples, to_jsonl(ROWS))
    return ws


def test_held_out_steps_are_for_the_test_alone(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    counts = run(ws, AugmentSettings(variants=2, max_steps=3))
    rows = list(read_rows(ws.variants, Example))
    assert counts["variants"] == len(rows)
    for row in rows:
        held_out = {is_held_out(step) for step in row.chain}
        assert held_out == {False} or (held_out == {True} and split_of(row.pair) == "test")
    plan = Counter((split_of(row.pair), is_held_out(row.chain[0])) for row in rows)
    pairs = Counter(split_of(row.pair) for row in ROWS)
    assert plan["test", True] == 2 * pairs["test"] and plan["test", False] == pairs["test"]
    assert plan["train", False] == 2 * pairs["train"]


def test_same_input_same_bytes(tmp_path: Path) -> None:
    first, second = workspace(tmp_path / "a"), workspace(tmp_path / "b")
    assert run(first, AugmentSettings()) == run(second, AugmentSettings())
    assert first.variants.read_bytes() == second.variants.read_bytes()
    run(second, AugmentSettings(seed=1))
    assert first.variants.read_bytes() != second.variants.read_bytes()


def test_pools_keep_to_their_split() -> None:
    decks = decks_of(ROWS, [], seed=0)
    for split, pool in decks.pools.items():
        used = {item.pair for item in pool.exchanges + pool.shots} | {item.pair for item in pool.passages}
        assert used and all(split_of(pair) == split for pair in used)


def test_attacks_become_steps_for_training(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    lamp = Template(id="x-1", family="red-team", turns=(Message("user", "The lamp wants to know: {query}"),))
    tale = Template(id="x-2", family="fiction", turns=(Message("user", "A tale in which one asks: {query}"),))
    write_atomic(ws.attacks, to_jsonl([lamp, tale]))
    counts = run(ws, AugmentSettings(variants=8))
    assert (counts["attacks"], counts["attacks_left_out"]) == (2, 1)
    used = {step for row in read_rows(ws.variants, Example) for step in row.chain if step.startswith("attack:")}
    assert used == {"attack:red-team/x-1"}


def test_a_broken_attack_file_is_named(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    write_atomic(ws.attacks, b'{"id": "x-1"}\n')
    with pytest.raises(DataError, match="attacks.jsonl:1"):
        run(ws, AugmentSettings())


def test_without_examples_the_message_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="marbury synth"):
        run(Workspace(tmp_path), AugmentSettings())


@pytest.mark.parametrize(
    "table", [{"variants": -1}, {"max_steps": 4}, {"max_characters": 10}, {"heldout_characters": 10}, {"variant": 1}]
)
def test_settings_are_checked(table: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        build(AugmentSettings, table, "augment")
