"""How the benchmarks score, count, leave out and go on, and that every script can be asked what it does."""

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from tiny_base import save_tiny_base
from transformers import AutoTokenizer

from marbury.augment.stage import AugmentSettings
from marbury.calibrate import read_traffic
from marbury.ciphers import CIPHERS
from marbury.classifier.base import load_base
from marbury.classifier.encoding import Encoder
from marbury.classifier.model import Classifier, build
from marbury.classifier.scorer import StreamScorer
from marbury.classifier.settings import TrainSettings
from marbury.records import Example, Message, Traffic, to_jsonl
from marbury.scoring import Side, whole
from marbury.split import is_held_out
from marbury.workspace import Workspace

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if "ArgumentParser" in path.read_text(encoding="utf-8"))
BOTH: tuple[Side, ...] = ("input", "output")
WORDS = [f"{a}{b}{c}" for a in ("lam", "sal", "wre", "tin") for b in ("po", "du", "ki", "ra", "me") for c in "nstlr"]
Script = Callable[[str], Any]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Imports a benchmark by its name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def sentence(name: str) -> str:
    return " ".join(Random(name).sample(WORDS, 12))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


def tiny_classifier(base: Path, sign: int = 1) -> tuple[Classifier, Encoder]:
    backbone, _ = load_base(str(base))
    model = build(backbone, BOTH, (), 4, 96, "v1").eval()
    torch.manual_seed(3)
    for name, weights in model.named_parameters():
        if weights.dim() == 2:  # so small a model is deaf with the usual ones
            torch.nn.init.normal_(weights, std=0.3)
            weights.data.mul_(sign if name.startswith("heads") else 1)
    return model, Encoder(AutoTokenizer.from_pretrained(base))


@pytest.mark.parametrize("sign", [1, -1])  # what is highest with one is lowest with the other
def test_batches_give_the_scores_of_the_stream_in_long_texts_and_many_turns(
    script: Script, tiny: Path, sign: int
) -> None:
    learned = script("learned")
    model, encoder = tiny_classifier(tiny, sign)
    stream = StreamScorer({side: (model, encoder) for side in BOTH}, engine="torch", prefix_mb=0)
    turns = tuple(Message(role, sentence(role)) for role in ("system", "user", "assistant", "user"))
    long = [Message("user", " ".join(sentence(f"{n}{m}") for m in range(4))) for n in range(6)]
    talks: list[tuple[tuple[Message, ...], str | None]] = [
        (turns, "a lamp."),
        (turns[:2], None),
        ((Message("user", "Lamps?"),), " ".join(sentence(f"reply {n}") for n in range(5))),
        ((Message("user", "Lamps?"),), ""),
        *(((message,), sentence("short")) for message in long),
    ]
    scores = {side: learned.scores_of(model, encoder, talks, side) for side in BOTH}
    for number, (request, reply) in enumerate(talks):
        asked, replied = whole(stream, request, reply)
        assert scores["input"][number] == pytest.approx(asked.harm, abs=1e-4)
        assert scores["output"][number] == pytest.approx(replied.harm if replied else float("-inf"), abs=1e-4)


def test_readings_are_the_highest_over_what_a_text_hides(script: Script, tiny: Path) -> None:
    learned = script("learned")
    model, encoder = tiny_classifier(tiny)
    hidden = CIPHERS["base64"].encode("Bring the amber lamp to the keeper of the salt before the wren sings.")
    asked = (Message("user", hidden),)
    talks = [(asked, "no."), ((Message("user", "The lamp?"),), hidden)]
    for side in BOTH:
        plain, best = learned.readings(model, encoder, talks, side)
        assert plain == pytest.approx(learned.scores_of(model, encoder, talks, side), abs=1e-5)
        assert all(more >= one for one, more in zip(plain, best, strict=True))
    text = next(view.text for view in learned.views(hidden))
    (read,) = learned.scores_of(model, encoder, [(asked, text)], "output")
    _, best = learned.readings(model, encoder, [(asked, hidden)], "output")
    assert best[0] >= read - 1e-5


def test_a_score_that_is_no_number_ends_a_benchmark(script: Script, tiny: Path) -> None:
    model, encoder = tiny_classifier(tiny)
    torch.nn.init.constant_(model.heads["input"].bias, float("nan"))  # type: ignore[arg-type]
    with pytest.raises(SystemExit, match="not a number"):
        script("learned").scores_of(model, encoder, [((Message("user", "A lamp?"),), None)], "input")


def example(source: str, number: int, *, harmful: bool, chain: tuple[str, ...] = ()) -> Example:
    name = f"{source}-{number}"
    return Example(
        id=f"{name}-{harmful}{''.join(chain)}",
        category="dream-sheet",
        messages=(Message("user", f"{sentence(name)} {' '.join(chain)}"), Message("assistant", sentence(f"{name}:r"))),
        request_harmful=harmful,
        reply_harmful=harmful,
        pair=name,
        source=source,
        chain=chain,
    )


def write_run(root: Path) -> Workspace:
    """A run folder with a data set of three writers."""
    ws = Workspace(root)
    source = ROOT / "src" / "marbury" / "data" / "orvane" / "constitution.md"
    plain = [example(name, n, harmful=bool(n % 2)) for name in ("a1", "a3", "a5") for n in range(8)]
    variants = [
        example(row.source, n % 8, harmful=row.request_harmful, chain=("noise:upper",)) for n, row in enumerate(plain)
    ]
    for path, rows in {
        ws.examples: plain,
        ws.train: [row for row in plain + variants[:4] if row.pair[-1] in "0123"],
        ws.valid: [row for row in plain if row.pair[-1] in "45"],
        ws.test: [row for row in plain + variants if row.pair[-1] in "67"],
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_jsonl(rows))
    ws.constitution.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    ws.settings.write_text("", encoding="utf-8")
    return ws


def run_main(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", [module.__name__, *arguments])
    module.main()


def test_an_ablation_goes_on_with_the_cells_that_are_missing(
    script: Script, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ablation, ws, out = script("ablation"), write_run(tmp_path / "run"), tmp_path / "out.jsonl"
    monkeypatch.setitem(ablation.CELLS, "default", {"base": str(tiny), "epochs": 1.0, "freeze_layers": 0})
    talk = (Message("user", sentence("traffic")), Message("assistant", "The wren sings."))
    monkeypatch.setattr(ablation, "read_traffic", lambda _: [Traffic("traffic", talk)])
    trained: list[int] = []
    train_parts = ablation.train_parts

    def counted(rows: Sequence[Example], settings: TrainSettings, *rest: Any) -> Any:
        trained.append(settings.seed)
        return train_parts(rows, settings, *rest)

    monkeypatch.setattr(ablation, "train_parts", counted)
    fixed = (str(ws.root), "--rows", "8", "--only", "default", "--out", str(out), "--markdown")
    run_main(ablation, monkeypatch, *fixed, "--seeds", "1")
    first = out.read_text(encoding="utf-8")
    run_main(ablation, monkeypatch, *fixed, "--seeds", "2")
    assert trained == [0, 1]
    assert out.read_text(encoding="utf-8").startswith(first)
    results = [json.loads(line)["results"] for line in out.read_text(encoding="utf-8").splitlines()]
    assert [list(found) for found in results] == [["views", "no views"]] * 2
    assert all(0 <= found["views"][f"{side} AUROC"] <= 1 for found in results for side in BOTH)
    monkeypatch.setitem(ablation.CELLS, "default", {**ablation.CELLS["default"], "learning_rate": 1e-4})
    run_main(ablation, monkeypatch, *fixed, "--seeds", "1")
    assert trained == [0, 1, 0], "what other settings gave does not count"


def test_by_writer_no_row_of_the_left_out_files_is_trained_on(script: Script, tmp_path: Path) -> None:
    orvane, ws = script("orvane"), write_run(tmp_path)
    train, test, _ = orvane.fold_of(ws, ["a1", "a5"], AugmentSettings())
    assert {row.source for row in train} == {"a3"} and any(not row.chain for row in train)
    assert len(test) == 16 and {row.source for row in test} == {"a1", "a5"} and not any(row.chain for row in test)
    with pytest.raises(SystemExit, match="a1"):
        orvane.fold_of(ws, ["a9"], AugmentSettings())


def test_training_rows_that_ask_what_a_left_out_writer_asks_go_with_their_pair(script: Script, tmp_path: Path) -> None:
    orvane, ws = script("orvane"), write_run(tmp_path)
    rows = [example("a3", n, harmful=bool(n % 2)) for n in range(4)]
    same = example("a1", 0, harmful=False)
    twin = Example(
        id="twin",
        category=same.category,
        messages=same.messages,
        request_harmful=False,
        reply_harmful=False,
        pair=rows[0].pair,
        source="a3",
    )
    ws.train.write_bytes(to_jsonl([*rows, twin]))
    train, _, removed = orvane.fold_of(ws, ["a1"], AugmentSettings(variants=0))
    assert [row.id for row in train] == [row.id for row in rows[1:]] and removed == 2


def test_orvane_counts_each_request_once_and_sorts_rows_by_what_is_held_out(script: Script) -> None:
    orvane, row = script("orvane"), example("a1", 0, harmful=True)
    other = Example(
        id="refused",
        category=row.category,
        messages=(*row.request, Message("assistant", "No.")),
        request_harmful=True,
        reply_harmful=False,
        pair=row.pair,
        source="a1",
    )
    coded = [example("a1", 0, harmful=True, chain=(step,)) for step in ("noise:upper", "noise:lower")]
    cases = orvane.cases_of([row, other, *coded])
    own = {side: [case for case in those if case.kind != "traffic"] for side, those in cases.items()}
    assert [case.id for case in own["input"]] == [row.id, *(c.id for c in coded)]
    assert [case.id for case in own["output"]] == [row.id, "refused", *(c.id for c in coded)]
    held = [is_held_out(step) for step in ("noise:upper", "noise:lower")]
    names = {True: "held-out transformations", False: "known transformations"}
    assert [case.kind for case in own["input"][1:]] == [names[one] for one in held] and len(set(held)) == 2
    assert all(len(cases[side]) > len(own[side]) for side in BOTH)


def test_orvane_by_writer_trains_reads_and_writes_errors(
    script: Script, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    orvane, ws, errors = script("orvane"), write_run(tmp_path / "run"), tmp_path / "errors.jsonl"
    ws.settings.write_text(f'[train]\nbase = "{tiny}"\nepochs = 1.0\nfreeze_layers = 0\n', encoding="utf-8")

    def few(files: Sequence[Path]) -> list[Traffic]:
        return read_traffic(files)[:4]

    monkeypatch.setattr(orvane, "read_traffic", few)
    run_main(orvane, monkeypatch, str(ws.root), "--by", "writer", "--folds", "a1+a5", "--errors", str(errors))
    shown = capsys.readouterr().out
    assert shown.count("without a1+a5 in training") == 3 and "8 / 8" in shown
    lines = [json.loads(line) for line in errors.read_text(encoding="utf-8").splitlines()]
    assert {(line["side"], line["error"]) for line in lines} == {
        (side, error) for side in BOTH for error in ("miss", "false alarm")
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_what_it_does(
    script: Script, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_main(script(name), monkeypatch, "--help")
    assert ended.value.code == 0
    assert f"python benchmarks/{name}.py" in capsys.readouterr().out
