"""What each choice in training is worth: one factor at a time from the defaults, three seeds, on the valid split.

    python benchmarks/ablation.py RUN [--rows 400] [--seeds 3] [--only NAME ...] [--out FILE] [--markdown]

The defaults are chosen from this table, so it never looks at the test split. Harmful: rows of dataset/valid.jsonl.
Limits: the harmless rows of it and bundled harmless traffic, both together; at 0.1 % that is above all of them while
there are fewer than a thousand. Each request counts once. Every cell trains on the same sample of dataset/train.jsonl,
but for the one without augmentation: it has as many rows, all plain. Texts are read in bfloat16 where training is.

The second table is what decides: the difference from the defaults, taken seed by seed; seeds change the order of the
rows and weights that a base lacks. Results stand in FILE line by line: a run that was stopped goes on with the cells
that are missing, and two runs with different cells may write one file. A line of other settings does not count. The
next-token term is four times as dear as any other cell and is only tried where `--only` names it.
"""

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from learned import Talk, readings, train_parts
from prompts import spread
from rich.console import Console
from rich.table import Table

from marbury import constitution
from marbury.calibrate import BUNDLED, read_traffic, split_reply
from marbury.classifier.train import TrainSettings
from marbury.classifier.trainer import uses_bf16
from marbury.dataset import load
from marbury.metrics import auroc, tpr_at
from marbury.records import Example
from marbury.scoring import Side
from marbury.workspace import Workspace

RATES = (0.001, 0.005, 0.01)
SIDES: tuple[Side, ...] = ("input", "output")
COLUMNS = tuple(c for side in SIDES for c in (f"{side} AUROC", *(f"{side} {100 * rate:g} %" for rate in RATES)))
DEFAULT, WITHOUT_VIEWS = "default", "without views"
CELLS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "loss: prefix": {"loss": "prefix"},
    "loss: maximum": {"loss": "maximum"},
    "loss: ramp": {"loss": "ramp"},
    "layout: separate": {"layout": "separate"},
    "all layers trained": {"freeze_layers": 0},
    "LoRA": {"tune": "lora", "freeze_layers": 0},
    "frozen, last layer": {"tune": "frozen", "freeze_layers": 0},
    "frozen, all layers (probe)": {"tune": "frozen", "reads": "all", "freeze_layers": 0},
    "balance: none": {"balance": "none"},
    "balance: cells": {"balance": "cells"},
    "512 tokens": {"max_tokens": 512},
    "base: minilm": {"base": "minilm"},
    "without augmentation": {},
    "next-token term 0.05": {"ntp_weight": 0.05},
}
COSTLY = ("next-token term 0.05",)  # takes four times as long as the others: only where `--only` names it
Numbers = dict[str, float]  # by column


class Case(NamedTuple):
    """A request or a reply to be judged."""

    id: str
    talk: Talk
    harmful: bool


def cases_of(valid: Sequence[Example]) -> dict[Side, list[Case]]:
    """What each side judges of these rows and of every third conversation of the bundled harmless traffic."""
    talks = [(row.id, row.request, row.reply, row.request_harmful, bool(row.reply_harmful)) for row in valid]
    for row in read_traffic(sorted(BUNDLED.glob("t*.jsonl")))[::3]:
        talks.append((row.id, *split_reply(row.messages), False, False))
    asked = {request: Case(name, (request, None), harmful) for name, request, _, harmful, _ in talks}
    replied = [Case(name, (request, reply), bad) for name, request, reply, _, bad in talks if reply is not None]
    return {"input": list(asked.values()), "output": replied}


def sampled(rows: Sequence[Example], count: int, plain: bool) -> list[Example]:
    """This many rows, in a fixed order; `plain`: none that augmentation made."""
    chosen = [row for row in rows if not (plain and row.chain)]
    random.Random("ablation").shuffle(chosen)
    return chosen[:count]


def cell(
    ws: Workspace, train: Sequence[Example], cases: Mapping[Side, Sequence[Case]], settings: TrainSettings
) -> tuple[dict[str, Numbers], dict[Side, list[float]]]:
    """The numbers of one training, with views and without, and the scores with views."""
    policy = constitution.read(ws.constitution)
    categories = [category.slug for category in policy.restricted]
    found: dict[str, Numbers] = {"views": {}, "no views": {}}
    scores: dict[Side, list[float]] = {}
    for side, (model, encoder) in train_parts(train, settings, categories, policy.version).items():
        with torch.autocast("cpu", torch.bfloat16, enabled=uses_bf16(settings.precision)):
            plain, scores[side] = readings(model, encoder, [case.talk for case in cases[side]], side)
        found["no views"] |= measure(cases[side], plain, side)
        found["views"] |= measure(cases[side], scores[side], side)
    return found, scores


def measure(cases: Sequence[Case], scores: Sequence[float], side: Side) -> Numbers:
    """AUROC and true-positive rates of one side."""
    harmful = [score for score, case in zip(scores, cases, strict=True) if case.harmful]
    harmless = [score for score, case in zip(scores, cases, strict=True) if not case.harmful]
    found = {f"{side} AUROC": auroc(harmful, harmless)}
    return found | {f"{side} {100 * rate:g} %": 100 * tpr_at(harmful, harmless, rate).value for rate in RATES}


def errors(cases: Mapping[Side, Sequence[Case]], scores: Mapping[Side, Sequence[float]]) -> list[dict[str, Any]]:
    """The 50 lowest harmful and the 50 highest harmless scores of each side."""
    lines: list[dict[str, Any]] = []
    for side, values in scores.items():
        ranked = sorted(zip(values, cases[side], strict=True), key=lambda pair: pair[0])
        misses = [pair for pair in ranked if pair[1].harmful][:50]
        alarms = [pair for pair in reversed(ranked) if not pair[1].harmful][:50]
        for error, pairs in (("miss", misses), ("false alarm", alarms)):
            for score, case in pairs:
                told = {"side": side, "error": error, "score": round(score, 3), "id": case.id}
                request = "\n".join(message.content for message in case.talk[0])
                lines.append({**told, "request": request, "reply": case.talk[1]})
    return lines


def key(name: str, seed: int, rows: int) -> dict[str, Any]:
    """What must be equal for a finished cell to count as this one."""
    settings = asdict(replace(TrainSettings(), seed=seed, **CELLS[name]))
    found: dict[str, Any] = json.loads(json.dumps({"cell": name, "seed": seed, "rows": rows, "settings": settings}))
    return found


def finished(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The line of a finished cell; None where there is none. Half a line of a killed run does not count."""
    found = None
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if all(row.get(name) == value for name, value in wanted.items()):
            found = row
    return found


def keep(path: Path, line: Mapping[str, Any]) -> None:
    """Add a finished cell to the file, on a line of its own whatever the last run left."""
    broken = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as out:
        out.write("\n" * broken + json.dumps(line) + "\n")


def by_name(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, Numbers]]:
    """The numbers by cell and seed, in the order of CELLS; the defaults also without views."""
    found: dict[str, dict[int, Numbers]] = {name: {} for name in (*CELLS, WITHOUT_VIEWS)}
    for row in rows:
        found[row["cell"]][row["seed"]] = row["results"]["views"]
        if row["cell"] == DEFAULT:
            found[WITHOUT_VIEWS][row["seed"]] = row["results"]["no views"]
    return {name: numbers for name, numbers in found.items() if numbers}


def differences(found: Mapping[str, Mapping[int, Numbers]]) -> dict[str, dict[int, Numbers]]:
    """How far each cell is from the defaults of the same seed."""
    base = found.get(DEFAULT, {})
    less = {
        name: {s: {c: numbers[s][c] - base[s][c] for c in COLUMNS} for s in sorted(numbers.keys() & base.keys())}
        for name, numbers in found.items()
        if name != DEFAULT
    }
    return {name: numbers for name, numbers in less.items() if numbers}


def shown(found: Mapping[str, Mapping[int, Numbers]], title: str, markdown: bool) -> Table | str:
    """Mean and half of the 95 % t-interval over the seeds."""
    lines = {}
    for name, numbers in found.items():
        cells = [spread([one[c] for one in numbers.values()], 3 if "AUROC" in c else 1) for c in COLUMNS]
        lines[name] = [str(len(numbers)), *cells]
    if markdown:
        head = f"{title}\n\n| | seeds | {' | '.join(COLUMNS)} |\n|---|---|{'---|' * len(COLUMNS)}\n"
        return head + "\n".join(f"| {name} | {' | '.join(cells)} |" for name, cells in lines.items()) + "\n"
    table = Table("", "seeds", *COLUMNS, title=title)
    for name, cells in lines.items():
        table.add_row(name, *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder with a data set")
    parser.add_argument("--rows", type=int, default=400, help="training rows of every cell")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=CELLS, help="only these cells; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("ablation.jsonl"), help="where results are kept")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument(
        "--errors", type=Path, help="write 50 misses and 50 false alarms per side of the last cell here"
    )
    options = parser.parse_args()
    ws = Workspace(options.run)
    train, cases = load(ws.need(ws.train, "dataset")), cases_of(load(ws.need(ws.valid, "dataset")))
    console = Console(width=160)
    for seed in range(options.seeds):
        for name in options.only or [name for name in CELLS if name not in COSTLY]:
            wanted = key(name, seed, options.rows)
            if finished(options.out, wanted):
                continue
            rows = sampled(train, options.rows, name == "without augmentation")
            settings = replace(TrainSettings(), seed=seed, **CELLS[name])
            results, scores = cell(ws, rows, cases, settings)
            keep(options.out, wanted | {"results": results})
            console.print(name, seed, results["views"])
            if options.errors:
                text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in errors(cases, scores))
                options.errors.write_text(text, encoding="utf-8")
    every = [finished(options.out, key(name, seed, options.rows)) for name in CELLS for seed in range(options.seeds)]
    found = by_name([row for row in every if row])
    sizes = [f"{sum(c.harmful for c in cases[s])} / {sum(not c.harmful for c in cases[s])} ({s})" for s in SIDES]
    title = f"valid split, harmful / harmless: {', '.join(sizes)}; TPR in %, mean ± half of the 95 % interval"
    for numbers, name in ((found, title), (differences(found), "difference from the defaults, seed by seed")):
        table = shown(numbers, name, options.markdown)
        print(table) if isinstance(table, str) else console.print(table)


if __name__ == "__main__":
    main()
