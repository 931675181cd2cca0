import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from marbury.errors import WorkspaceError
from marbury.workspace import Counts, Stage, Workspace, hash_path, write_atomic, write_json


@dataclass(frozen=True)
class BakeSettings:
    heat: int = 3
    tins: tuple[str, ...] = ("round",)


class Oven:
    """A door that counts how often it was opened and writes one file."""

    def __init__(self, ws: Workspace) -> None:
        self.opened = 0
        self.bread = ws.root / "bread" / "loaf.txt"

    def __call__(self) -> Counts:
        self.opened += 1
        write_atomic(self.bread, b"bread")
        return {"loaves": 1}


def stage(heat: int = 3, flour: str = "f1") -> Stage:
    return Stage("bake", BakeSettings(heat), {"flour": flour})


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "run")


def test_writing_makes_the_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_write_leaves_the_old_file_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "b.txt"
    write_atomic(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"new"


def test_json_is_readable_by_people_and_keeps_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"salt": "brasić", "n": [1]})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "salt": "brasić",\n  "n": [\n    1\n  ]\n}\n'


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_path(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "sub" / "b").write_bytes(b"B"),  # content
        lambda folder: (folder / "sub" / "b").rename(folder / "sub" / "c"),  # name
        lambda folder: (folder / "sub" / "b").rename(folder / "b"),  # place
        lambda folder: (folder / "a").unlink(),
        lambda folder: (folder / "new").write_bytes(b""),
    ],
)
def test_the_hash_of_a_folder_changes_with_every_file(tmp_path: Path, change: Callable[[Path], object]) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        write_atomic(folder / "a", b"a")
        write_atomic(folder / "sub" / "b", b"b")
    assert hash_path(folders[0]) == hash_path(folders[1])
    change(folders[1])
    assert hash_path(folders[0]) != hash_path(folders[1])


def test_making_a_workspace_touches_nothing(ws: Workspace) -> None:
    assert not ws.root.exists()
    assert ws.rows() == {}


def test_what_is_needed_and_missing_names_the_verb(ws: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=f"no dataset/train.jsonl in {ws.root}: run `marbury dataset {ws.root}`"):
        ws.need(ws.train, "dataset")
    write_atomic(ws.train, b"")
    assert ws.need(ws.train, "dataset") == ws.train


def test_paths_outside_keep_their_whole_name(ws: Workspace) -> None:
    assert ws.name_of(ws.train) == "dataset/train.jsonl"
    assert ws.name_of(Path("/elsewhere/x")) == "/elsewhere/x"


def test_a_finished_stage_is_skipped(ws: Workspace) -> None:
    oven = Oven(ws)
    assert not ws.done(stage())
    assert ws.run(stage(), [oven.bread], oven)
    assert not ws.run(stage(), [oven.bread], oven)
    assert oven.opened == 1
    row = ws.rows()["bake"]
    assert row["counts"] == {"loaves": 1}
    assert row["settings"] == {"heat": 3, "tins": ["round"]}
    assert row["outputs"] == {"bread/loaf.txt": hash_path(oven.bread)}


def test_force_runs_a_finished_stage(ws: Workspace) -> None:
    oven = Oven(ws)
    ws.run(stage(), [oven.bread], oven)
    assert ws.run(stage(), [oven.bread], oven, force=True)
    assert oven.opened == 2


@pytest.mark.parametrize("changed", [stage(heat=4), stage(flour="f2"), Stage("bake", BakeSettings(), {})])
def test_changed_settings_or_inputs_run_again(ws: Workspace, changed: Stage) -> None:
    oven = Oven(ws)
    ws.run(stage(), [oven.bread], oven)
    assert not ws.done(changed)
    assert ws.run(changed, [oven.bread], oven)
    assert ws.done(changed) and not ws.done(stage())


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"crumbs")])
def test_a_changed_or_deleted_output_runs_again(ws: Workspace, damage: Callable[[Path], object]) -> None:
    oven = Oven(ws)
    ws.run(stage(), [oven.bread], oven)
    damage(oven.bread)
    assert not ws.done(stage())
    assert ws.run(stage(), [oven.bread], oven)
    assert oven.bread.read_bytes() == b"bread"


def test_an_output_folder_counts_with_all_it_holds(ws: Workspace) -> None:
    oven = Oven(ws)
    ws.run(stage(), [oven.bread.parent], oven)
    assert ws.done(stage())
    (oven.bread.parent / "mould").write_bytes(b"")
    assert not ws.done(stage())


def test_a_stage_that_fails_is_not_done(ws: Workspace) -> None:
    def burns() -> Counts:
        raise RuntimeError("smoke")

    with pytest.raises(RuntimeError, match="smoke"):
        ws.run(stage(), [], burns)
    assert not ws.done(stage()) and ws.rows() == {}


def test_rows_of_other_stages_stay(ws: Workspace) -> None:
    oven = Oven(ws)
    ws.run(stage(), [oven.bread], oven)
    before = ws.rows()["bake"]
    ws.run(Stage("eat", BakeSettings(), {}), [], lambda: {})
    assert list(ws.rows()) == ["bake", "eat"] and ws.rows()["bake"] == before


@pytest.mark.parametrize("data", [b"{", b"[1]", b"\xff"])
def test_a_damaged_manifest_says_what_to_do(ws: Workspace, data: bytes) -> None:
    write_atomic(ws.manifest, data)
    with pytest.raises(WorkspaceError, match="manifest.json: damaged manifest .*delete it to run all stages again"):
        ws.done(stage())


@pytest.mark.parametrize("row", [3, {"settings": {"heat": 3, "tins": ["round"]}, "inputs": {"flour": "f1"}}])
def test_a_damaged_row_says_what_to_do(ws: Workspace, row: object) -> None:
    write_atomic(ws.manifest, json.dumps({"bake": row}).encode())
    with pytest.raises(WorkspaceError, match="manifest.json: damaged manifest"):
        ws.done(stage())


def test_clearing_takes_files_and_folders_and_what_is_not_there(ws: Workspace) -> None:
    write_atomic(ws.train, b"x")
    ws.clear(ws.train)
    assert not ws.train.exists()
    write_atomic(ws.train, b"x")
    ws.clear(ws.dataset)
    ws.clear(ws.dataset)
    assert ws.root.exists() and not ws.dataset.exists()


def test_clearing_never_leaves_the_run_folder(ws: Workspace) -> None:
    for path in (ws.root, ws.root.parent / "other"):
        with pytest.raises(AssertionError):
            ws.clear(path)
