import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_base import save_tiny_base

from marbury import pipeline
from marbury.calibrate import CalibrateSettings, read_traffic, traffic_files
from marbury.constitution import templates
from marbury.errors import SettingsError, WorkspaceError
from marbury.records import to_jsonl, turns_of
from marbury.workspace import Workspace, hash_path, write_atomic

SETTINGS = """
[train]
base = "{base}"
layout = "separate"
epochs = 0.25
batch_size = 64
max_tokens = 64
freeze_layers = 0

[calibrate]
traffic = "{traffic}"
false_positive_rate = 0.2

[evaluate]
max_attacks = 6
max_harmless = 6
max_replies = 6
"""


def new_run(root: Path, base: Path) -> Workspace:
    """A run folder whose settings make every stage small: a tiny base, and 20 harmless conversations of each kind."""
    ws = Workspace(root)
    write_atomic(ws.constitution, templates.text("orvane").encode())
    rows = read_traffic(traffic_files(CalibrateSettings()))
    some = [row for turns in ("single", "multi") for row in [r for r in rows if turns_of(r.messages) == turns][:20]]
    write_atomic(base / "traffic.jsonl", to_jsonl(some))
    write_atomic(ws.settings, SETTINGS.format(base=base, traffic=base / "traffic.jsonl").encode())
    return ws


def run_all(ws: Workspace) -> list[str]:
    """Run what is not done; give what ran."""
    settings = pipeline.load_settings(ws)
    ran = []
    for name in pipeline.STAGES:
        step = pipeline.step(ws, settings, name)
        if ws.run(step.stage, step.outputs, step.door):
            ran.append(name)
    return ran


def artifacts(ws: Workspace) -> dict[str, str]:
    """Hashes of everything in the run folder but the manifest, whose rows carry times."""
    found = (path for path in ws.root.rglob("*") if path.is_file() and path != ws.manifest)
    return {ws.name_of(path): hash_path(path) for path in sorted(found)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Workspace:
    ws = new_run(tmp_path_factory.mktemp("finished"), base)
    assert run_all(ws) == list(pipeline.STAGES)
    return ws


def test_all_stages_leave_their_artifacts_and_a_row_each(finished: Workspace) -> None:
    assert list(finished.rows()) == list(pipeline.STAGES)
    for path in (finished.train, finished.classifier, finished.thresholds, finished.curves, finished.page):
        assert path.exists()
    report = json.loads(finished.report.read_bytes())
    assert report["ladder"]["both"]["late"] == 0
    assert report["constitution"] == finished.rows()["train"]["inputs"]["constitution"]


def test_a_second_run_does_nothing(finished: Workspace) -> None:
    before = artifacts(finished)
    assert run_all(finished) == []
    assert artifacts(finished) == before


def test_a_changed_setting_redoes_what_depends_on_it(finished: Workspace) -> None:
    settings = pipeline.load_settings(finished, {"calibrate": {"false_positive_rate": 0.3}})
    stale = [name for name in pipeline.STAGES if not finished.done(pipeline.step(finished, settings, name).stage)]
    assert stale == ["calibrate"]  # evaluate reads the thresholds' file, which has not been written yet


def test_re_wrapped_prose_redoes_nothing_and_a_new_example_redoes_synth(finished: Workspace) -> None:
    text = finished.constitution.read_text()
    settings = pipeline.load_settings(finished)
    try:
        finished.constitution.write_text(
            text.replace("outside the licensed trade: where", "outside the licensed\ntrade: where")
        )
        assert finished.done(pipeline.step(finished, settings, "synth").stage)
        finished.constitution.write_text(text.replace("- which chapel bells", "- whose chapel bells"))
        assert not finished.done(pipeline.step(finished, settings, "synth").stage)
    finally:
        finished.constitution.write_text(text)


def _run_and_kill_in(ws: Workspace, stage: str, under_way: Callable[[], bool]) -> None:
    """Start `marbury run` and kill it without warning once this stage has begun and is under way."""
    with subprocess.Popen(
        [sys.executable, "-m", "marbury.cli", "run", str(ws.root)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stderr is not None
        assert any(line.strip() == stage for line in process.stderr)
        while process.poll() is None and not under_way():
            time.sleep(0.01)
        process.kill()


def _after(seconds: float) -> Callable[[], bool]:
    """Under way is what began this long before the first question."""
    started: list[float] = []

    def passed() -> bool:
        started.append(time.monotonic())
        return started[-1] - started[0] >= seconds

    return passed


def test_a_run_killed_in_every_stage_ends_with_the_same_files(tmp_path: Path, base: Path, finished: Workspace) -> None:
    ws = new_run(tmp_path, base)

    def saved() -> bool:
        return any(ws.checkpoints.glob("*/output/checkpoint-*/trainer_state.json"))

    kills = {"synth": _after(0), "augment": _after(0.05), "dataset": _after(0.05), "train": saved}
    kills |= {"calibrate": _after(0.2), "evaluate": _after(0.2)}
    for stage, under_way in kills.items():
        _run_and_kill_in(ws, stage, under_way)
        if stage in ("train", "calibrate", "evaluate"):
            assert stage not in ws.rows(), f"the kill in {stage} came too late to test anything"
    assert run_all(ws)[-1] == "evaluate"
    assert artifacts(ws) == artifacts(finished)


def test_an_unknown_setting_names_the_nearest(tmp_path: Path, base: Path) -> None:
    ws = new_run(tmp_path, base)
    write_atomic(ws.settings, b"[train]\nepoch = 3\n")
    with pytest.raises(SettingsError, match="unknown setting 'epoch'; did you mean 'epochs'"):
        pipeline.load_settings(ws)
    write_atomic(ws.settings, b"[trian]\nepochs = 3\n")
    with pytest.raises(SettingsError, match="did you mean 'train'"):
        pipeline.load_settings(ws)


def test_a_folder_without_a_constitution_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="marbury new"):
        pipeline.open_run(tmp_path)


def test_a_stage_out_of_order_names_the_verb_to_run_first(tmp_path: Path, base: Path) -> None:
    ws = new_run(tmp_path, base)
    settings = pipeline.load_settings(ws)
    for name, needs in (("augment", "synth"), ("dataset", "synth"), ("train", "dataset"), ("calibrate", "train")):
        with pytest.raises(WorkspaceError, match=f"run `marbury {needs} "):
            pipeline.step(ws, settings, name)
    with pytest.raises(WorkspaceError, match="run `marbury train "):
        pipeline.serve(ws, settings["serve"])


def test_a_missing_traffic_file_is_named_before_anything_runs(finished: Workspace) -> None:
    settings = pipeline.load_settings(finished, {"calibrate": {"traffic": "gone.jsonl"}})
    with pytest.raises(SettingsError, match=r"\[calibrate\] names gone.jsonl"):
        pipeline.step(finished, settings, "calibrate")


def test_imported_files_of_one_name_are_inputs_of_their_own(finished: Workspace, tmp_path: Path) -> None:
    paths = [tmp_path / folder / "x.jsonl" for folder in ("a", "b")]
    for path in paths:
        write_atomic(path, b'{"prompt": "dear?", "label": 0}\n')
    settings, columns = pipeline.with_imports(pipeline.load_settings(finished), [str(path) for path in paths])
    assert list(columns) == [str(path) for path in paths]
    before = pipeline.step(finished, settings, "dataset").stage.key()
    for path in paths:
        write_atomic(path, b'{"prompt": "cheap?", "label": 0}\n')
        after = pipeline.step(finished, settings, "dataset").stage.key()
        assert after != before
        before = after
