"""What each choice in training is worth: one factor at a time from the defaults, three seeds, on the valid split.

    python benchmarks/ablation.py runs/demo [--rows 1000] [--seeds 3] [--only NAME ...] [--out FILE] [--markdown]

The defaults are chosen from this table, so it never looks at the test split. Harmful: rows of dataset/valid.jsonl.
Limits: the harmless rows of it and the bundled harmless traffic, both together. Every cell trains on the same sample of
dataset/train.jsonl. Results stand in FILE line by line: a run that was stopped goes on with the cells that are missing.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from learned import best_scores
from prompts import means
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from marbury import constitution
from marbury.calibrate import BUNDLED, read_traffic, split_reply
from marbury.classifier.encoding import Encoder
from marbury.classifier.model import Classifier
from marbury.classifier.train import LAYOUTS, TrainSettings, train_one
from marbury.dataset import load
from marbury.metrics import auroc, tpr_at
from marbury.records import Example, Message
from marbury.scoring import Side
from marbury.workspace import Workspace

RATES = (0.001, 0.005, 0.01)
CELLS: dict[str, dict[str, Any]] = {
    "default": {},
    "loss: prefix": {"loss": "prefix"},
    "loss: maximum": {"loss": "maximum"},
    "loss: ramp": {"loss": "ramp"},
    "layout: separate": {"layout": "separate"},
    "all layers trained": {"freeze_layers": 0},
    "LoRA": {"tune": "lora", "freeze_layers": 0},
    "frozen, last layer": {"tune": "frozen", "freeze_layers": 0},
    "frozen, all layers (probe)": {"tune": "frozen", "reads": "all", "freeze_layers": 0},
    "next-token term 0.05": {"ntp_weight": 0.05},
    "balance: none": {"balance": "none"},
    "base: minilm": {"base": "minilm"},
    "without augmentation": {},
}
Talk = tuple[tuple[Message, ...], str | None]


def sampled(rows: Sequence[Example], count: int, plain: bool) -> list[Example]:
    """This many rows, in a fixed order; `plain`: none that augmentation made."""
    chosen = [row for row in rows if not (plain and row.chain)]
    random.Random("ablation").shuffle(chosen)
    return chosen[:count]


def cell(
    ws: Workspace, train: Sequence[Example], valid: Sequence[Example], traffic: Sequence[Talk], settings: TrainSettings
) -> dict[str, dict[str, float]]:
    """The numbers of one training, with views and without."""
    policy = constitution.read(ws.constitution)
    categories = [category.slug for category in policy.restricted]
    found: dict[str, dict[str, float]] = {"views": {}, "no views": {}}
    for name, sides in LAYOUTS[settings.layout].items():
        with tempfile.TemporaryDirectory() as folder:
            final = Path(folder) / name
            train_one(train, categories, policy.version, sides, settings, Path(folder) / "work", final)
            model, encoder = Classifier.from_pretrained(final).eval(), Encoder(AutoTokenizer.from_pretrained(final))
        for side in sides:
            for views in (True, False):
                found["views" if views else "no views"] |= measure(model, encoder, valid, traffic, side, views)
    return found


def measure(
    model: Classifier, encoder: Encoder, valid: Sequence[Example], traffic: Sequence[Talk], side: Side, views: bool
) -> dict[str, float]:
    """AUROC and true-positive rates of one side."""
    if side == "input":
        asked = {row.request: row.request_harmful for row in valid}
        talks: list[Talk] = [(request, None) for request in asked]
        labels = list(asked.values())
        talks += [(request, None) for request, _ in traffic]
    else:
        rows = [row for row in valid if row.reply is not None]
        talks, labels = [(row.request, row.reply) for row in rows], [bool(row.reply_harmful) for row in rows]
        talks += [(request, reply) for request, reply in traffic if reply]
    labels += [False] * (len(talks) - len(labels))
    scores = best_scores(model, encoder, talks, side, views)
    harmful = [s for s, bad in zip(scores, labels, strict=True) if bad]
    harmless = [s for s, bad in zip(scores, labels, strict=True) if not bad]
    found = {f"{side} AUROC": auroc(harmful, harmless)}
    return found | {f"{side} {100 * rate:g} %": 100 * tpr_at(harmful, harmless, rate).value for rate in RATES}


def traffic_of() -> list[Talk]:
    """The bundled harmless traffic, as requests and replies."""
    return [split_reply(row.messages) for row in read_traffic(sorted(BUNDLED.glob("t*.jsonl")))]


def done(path: Path) -> dict[tuple[str, int, int], dict[str, Any]]:
    """The finished cells in a file, by name, seed and rows."""
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(row["cell"], row["seed"], row["rows"]): row for row in rows}


def table_of(rows: Sequence[dict[str, Any]], markdown: bool) -> Table | str:
    """Mean and half of the 95 % interval over the seeds, per cell; the default also without views."""
    found: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        found.setdefault(row["cell"], []).append(row["results"]["views"])
        if row["cell"] == "default":
            found.setdefault("without views", []).append(row["results"]["no views"])
    names = [name for name in [*CELLS, "without views"] if name in found]
    columns = [c for side in ("input", "output") for c in (f"{side} AUROC", *(f"{side} {100 * r:g} %" for r in RATES))]
    lines = {name: means([{c: result[c] for c in columns} for result in found[name]]) for name in names}
    if markdown:
        head = f"| from the defaults | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}\n"
        return head + "\n".join(f"| {name} | {' | '.join(cells)} |" for name, cells in lines.items())
    table = Table("from the defaults", *columns, title="valid split; TPR in %, mean ± half of the 95 % interval")
    for name, cells in lines.items():
        table.add_row(name, *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder with a data set")
    parser.add_argument("--rows", type=int, default=1000, help="training rows of every cell")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=CELLS, help="only these cells; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("ablation.jsonl"), help="where results are kept")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    disable_progress_bar()
    ws = Workspace(options.run)
    train, valid, traffic = load(ws.need(ws.train, "dataset")), load(ws.need(ws.valid, "dataset")), traffic_of()
    console = Console(width=160)
    for seed in range(options.seeds):
        for name in options.only or CELLS:
            if (name, seed, options.rows) in done(options.out):
                continue
            settings = replace(TrainSettings(), seed=seed, **CELLS[name])
            rows = sampled(train, options.rows, name == "without augmentation")
            results = cell(ws, rows, valid, traffic, settings)
            line = {"cell": name, "seed": seed, "rows": options.rows, "results": results, "settings": asdict(settings)}
            with options.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            console.print(name, seed, results["views"])
    rows_done = [row for row in done(options.out).values() if row["rows"] == options.rows]
    shown = table_of(rows_done, options.markdown)
    print(shown) if isinstance(shown, str) else console.print(shown)


if __name__ == "__main__":
    torch.set_num_threads(max(1, torch.get_num_threads()))
    main()
