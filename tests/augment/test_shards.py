"""Shards of augment: any number of processes gives the same bytes, and a kill costs the unfinished shards alone."""

from pathlib import Path

import pytest

import marbury
from marbury.augment import shards
from marbury.augment.editing import pool_of
from marbury.augment.stage import AugmentSettings, run
from marbury.records import Example, read_rows, to_jsonl
from marbury.workspace import Workspace, write_atomic

CORPUS = Path(marbury.__file__).parent / "data" / "orvane" / "corpus"
ROWS = [row for name in ("a1", "a4", "a6") for row in list(read_rows(CORPUS / f"{name}.jsonl", Example))[:28]][:80]


def workspace(root: Path) -> Workspace:
    ws = Workspace(root)
    write_atomic(ws.examples, to_jsonl(ROWS))
    return ws


def whole(root: Path) -> bytes:
    ws = workspace(root)
    run(ws, AugmentSettings())
    return ws.variants.read_bytes()


def test_any_number_of_processes_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = whole(tmp_path / "one")
    cut = shards.shards_of
    monkeypatch.setattr(shards, "shards_of", lambda path: cut(path, 17))
    ws = workspace(tmp_path / "two")
    assert run(ws, AugmentSettings(processes=2))["examples"] == len(ROWS)
    assert ws.variants.read_bytes() == expected


def test_after_a_kill_finished_shards_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = whole(tmp_path / "one")
    cut, make, made = shards.shards_of, shards._make, list[int]()
    monkeypatch.setattr(shards, "shards_of", lambda path: cut(path, 17))

    def dying(shard: shards.Shard, source: Path, folder: Path, maker: shards.Make) -> dict[str, int]:
        if shard.number == 2 and 2 not in made:
            made.append(2)
            raise KeyboardInterrupt
        made.append(shard.number)
        return make(shard, source, folder, maker)

    monkeypatch.setattr(shards, "_make", dying)
    ws = workspace(tmp_path / "two")
    with pytest.raises(KeyboardInterrupt):
        run(ws, AugmentSettings())
    assert not ws.variants.exists()
    assert run(ws, AugmentSettings())["examples"] == len(ROWS)
    assert made == [0, 1, 2, 2, 3, 4] and ws.variants.read_bytes() == expected


def test_a_pool_stays_within_its_limit() -> None:
    pool = pool_of(ROWS, limit=5)
    assert len(pool.exchanges) == 5 and len(pool.passages) <= 5
    assert pool == pool_of(ROWS, limit=5)
