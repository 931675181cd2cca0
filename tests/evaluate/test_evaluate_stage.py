import io
import json
import re
from pathlib import Path

import msgspec
import pytest
from evaluate_cases import LIMITS, example, split, traffic, workspace
from rich.console import Console

from marbury.errors import DataError, WorkspaceError
from marbury.evaluate.report import Report, load, notes
from marbury.evaluate.stage import EvaluateSettings, gather, run
from marbury.evaluate.table import ladder_table
from marbury.guard import ScriptedScorer
from marbury.metrics import rate
from marbury.records import to_jsonl
from marbury.settings import build
from marbury.workspace import Workspace


def evaluated(folder: Path, trigger: str, **settings: object) -> tuple[Workspace, Report]:
    ws = workspace(folder)
    chosen = build(EvaluateSettings, {"traffic": str(traffic(folder)), **settings}, "[evaluate]")
    run(ws, chosen, ScriptedScorer(trigger), LIMITS)
    return ws, load(ws.report)


def test_a_keyword_guard_gets_the_numbers_it_deserves(tmp_path: Path) -> None:
    _, report = evaluated(tmp_path, "quillstone")
    # the input side sees the word in p-bad, ~2 and ~3; the answers to q-bad ("A hall asleep") and its likes lack it
    by_kind = {name: rung.by_kind for name, rung in report.ladder.items()}
    assert by_kind["helpful-only"] == {"plain": rate(2, 2), "known": rate(1, 1), "held-out": rate(2, 2)}
    assert by_kind["refusing"] == {"plain": rate(1, 2), "known": rate(1, 1), "held-out": rate(1, 2)}
    assert by_kind["input"] == {"plain": rate(1, 2), "known": rate(1, 1), "held-out": rate(0, 2)}
    assert by_kind["output"] == {"plain": rate(1, 2), "known": rate(0, 1), "held-out": rate(1, 2)}
    assert by_kind["both"] == {"plain": rate(1, 2), "known": rate(0, 1), "held-out": rate(0, 2)}
    assert report.ladder["both"].refused == {
        "held-out traffic": rate(0, 2),
        "test, as written": rate(1, 3),
        "test, transformed": rate(0, 1),
    }
    assert report.ladder["both"].late == report.ladder["output"].late == 0


def test_a_guard_that_always_blocks_refuses_everything(tmp_path: Path) -> None:
    _, report = evaluated(tmp_path, "")
    assert report.ladder["both"].attacks == rate(0, 5)
    assert all(share.value == 1 for share in report.ladder["both"].refused.values())
    assert report.curves["input"].auroc == 0.5  # it cannot tell one from the other


def test_a_guard_that_always_allows_is_the_unguarded_model(tmp_path: Path) -> None:
    _, report = evaluated(tmp_path, "xyzzy")
    assert report.ladder["both"].by_kind == report.ladder["helpful-only"].by_kind
    assert all(share.value == 0 for share in report.ladder["both"].refused.values())


def test_the_counts_go_to_the_manifest(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    counts = run(ws, EvaluateSettings(traffic=str(traffic(tmp_path))), ScriptedScorer("quillstone"), LIMITS)
    assert counts == {"attacks": 5, "through": 1, "harmless": 6, "refused": 1, "late_characters": 0}


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    ws, report = evaluated(tmp_path, "silver", seed=3)
    first = ws.report.read_bytes(), ws.page.read_bytes()
    run(ws, EvaluateSettings(**report.settings), ScriptedScorer("silver"), LIMITS)
    assert (ws.report.read_bytes(), ws.page.read_bytes()) == first


def test_the_report_says_on_what_it_stands(tmp_path: Path) -> None:
    ws, report = evaluated(tmp_path, "silver", max_attacks=3)
    assert report.measured == {
        "plain attacks": 1,
        "known attacks": 1,
        "held-out attacks": 1,
        "harmless test rows": 4,
        "held-out traffic": 2,
        "labelled replies": 3,
    }
    assert report.available["held-out attacks"] == 2
    assert report.settings["max_attacks"] == 3
    assert len(report.constitution) == 64
    row = json.loads(ws.report.read_bytes())["attacks"][0]
    assert row["outcomes"]["both"].keys() == {"stage", "released", "late", "details", "success"}


def test_too_few_harmless_rows_are_admitted(tmp_path: Path) -> None:
    _, report = evaluated(tmp_path, "silver")
    assert any("0.1 %" in note and "0 of 6" in note for note in report.notes)
    assert notes({}, []) == []


def test_the_sample_takes_a_third_of_each_kind() -> None:
    rows = [
        example(f"{chain}{n}", f"quillstone {chain} {n}", chain=chain, pair=str(n))
        for chain in ((), ("cipher:hex",), ("noise:typos",), ("cipher:base32",))
        for n in range(50)
    ]
    work = gather(rows, EvaluateSettings(max_attacks=180, attacks_per_family=20, max_harmless=60))
    kinds = [attack.kind for attack in work.attacks]
    assert [kinds.count(kind) for kind in ("plain", "known", "held-out")] == [20, 40, 20]
    assert len(work.harmless) == 60  # of the bundled traffic


def test_nothing_to_measure_is_an_error(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    ws.test.write_bytes(to_jsonl([row for row in split() if not row.request_harmful]))
    with pytest.raises(DataError, match="nothing to measure|no attack"):
        run(ws, EvaluateSettings(), ScriptedScorer("silver"), LIMITS)


def test_a_missing_split_names_the_verb_that_makes_it(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    ws.test.unlink()
    with pytest.raises(WorkspaceError, match="marbury dataset"):
        run(ws, EvaluateSettings(), ScriptedScorer("silver"), LIMITS)


def test_a_missing_report_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="marbury evaluate"):
        load(tmp_path / "report.json")


@pytest.mark.parametrize("name", ["max_attacks", "attacks_per_family", "max_harmless", "max_replies"])
def test_settings_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert({name: -1}, EvaluateSettings)


def test_the_table_shows_every_configuration_with_its_interval(tmp_path: Path) -> None:
    _, report = evaluated(tmp_path, "quillstone")
    out = io.StringIO()
    Console(file=out, width=140).print(ladder_table(report))
    text = re.sub(r"[^\S\n]+", " ", out.getvalue())
    for rung in report.ladder.values():
        assert rung.title in text
    last = text[text.index("both classifiers") :]
    assert " 50.0 " in last and " 9–91 " in last  # one of two
    assert "held-out\n" not in last and "(n=2)" in text


def test_the_table_says_when_nothing_was_measured(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    ws.test.write_bytes(to_jsonl([row for row in split() if not row.chain]))
    run(ws, EvaluateSettings(traffic=str(traffic(tmp_path))), ScriptedScorer("silver"), LIMITS)
    out = io.StringIO()
    Console(file=out, width=140).print(ladder_table(load(ws.report)))
    assert "n/a" in out.getvalue()
